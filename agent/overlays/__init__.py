"""The networks of this host, and the addresses and host ports that its tasks hold."""
