"""Images on this host: finding, pulling, listing and removing them."""
