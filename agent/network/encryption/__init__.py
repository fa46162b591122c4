"""Encrypted networks: the desired IPsec state, and how the kernel gets it."""
