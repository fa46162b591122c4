"""The fleet's registry, for users."""
