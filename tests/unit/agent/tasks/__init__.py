"""Tests of what happens to a task on its node."""
