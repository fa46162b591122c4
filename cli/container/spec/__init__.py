"""The flags of `run` and `create`, and the spec that they make."""
