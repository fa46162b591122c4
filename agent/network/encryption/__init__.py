"""Encrypted networks: what the kernel's IPsec should hold, its bytes, and who keeps it so."""
