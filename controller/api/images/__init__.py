"""Images: their digests, and the nodes that pull, list and remove them."""
