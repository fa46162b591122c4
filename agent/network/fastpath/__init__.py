"""The fast path between tasks of one network on two hosts, past the hooks of IP."""
