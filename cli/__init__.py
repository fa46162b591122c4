"""The `pyswarm` command: Docker's words and columns over the controller's API."""
