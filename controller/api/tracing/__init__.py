"""Traces of the route from one task to another: the two ends, and the findings of each hop."""
