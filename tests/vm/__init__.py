"""Tests that want a kernel of their own: tests/vm/run."""
