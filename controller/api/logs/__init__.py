"""Logs of a service or a task, from the nodes where they lie."""
