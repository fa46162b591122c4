"""The copies that the leader makes of volumes that are moved."""
