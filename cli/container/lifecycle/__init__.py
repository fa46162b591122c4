"""The verbs that start, stop, rename and remove containers."""
