"""The archives in which files are copied out of containers and into them."""
