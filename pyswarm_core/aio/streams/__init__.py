"""Byte streams in an event loop."""
