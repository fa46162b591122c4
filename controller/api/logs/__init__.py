"""Logs of a service or a task, read from their nodes."""
