"""Which networks this host carries, and which addresses and ports of them its tasks hold."""
