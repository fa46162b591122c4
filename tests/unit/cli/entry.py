"""The console script, for a process of its own: `python -m tests.unit.cli.entry ARGUMENTS`."""

from cli.main import main

if __name__ == "__main__":
    main()
