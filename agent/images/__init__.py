"""Images on this host: which ones are here, what they say, and how a missing one is fetched."""
