"""What can be done to a container while it runs: run a command, pause it, change its limits."""
