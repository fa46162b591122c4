"""Verbs about the files of containers."""
