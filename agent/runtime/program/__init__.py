"""Why a program of a container cannot be run: its file is inspected."""
