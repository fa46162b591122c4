"""The verbs of `compose` that build, push and pull images."""
