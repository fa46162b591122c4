"""Byte streams to the tasks of this host: commands, stdio, connections."""
