"""What isolates containers from this host: ranges of ids, and the devices that they get."""
