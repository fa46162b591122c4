"""Where the fleet's state lives: one protocol (base), kept by memory (for tests) and by etcd."""
