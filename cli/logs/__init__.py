"""Logs of containers, services and tasks: flags, requests and output of the verbs `logs`."""
