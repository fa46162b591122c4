"""Images of nodes, as values."""
