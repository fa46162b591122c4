"""The calls that are byte streams."""
