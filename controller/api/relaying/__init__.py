"""Byte streams of users to tasks."""
