"""The brain of the fleet: keeps what users asked for and decides which node runs what."""
