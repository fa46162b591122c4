"""Docker's documents and flag syntax, for the CLI, Compose files and APIs. PURE."""
