"""Archives of volumes that one agent sends to another one, past the leader."""
