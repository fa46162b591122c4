"""How services are reached: what nodes are told of it, and which stops wait for that."""
