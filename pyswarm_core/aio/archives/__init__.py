"""Archives in which files are copied out of containers and into them: tar, as in Docker's API."""
