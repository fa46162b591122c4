"""The copies of volumes on this host: where they are, how a new one is filled, their removal."""
