"""The fast path: packets between tasks of one network on two hosts bypass the hooks of IP."""
