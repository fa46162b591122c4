"""Byte streams between this process's stdio and tasks."""
