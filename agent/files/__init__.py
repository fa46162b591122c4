"""The files of containers: what changed in them, and copies out of them and into them."""
