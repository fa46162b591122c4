"""Logs of tasks, as agents, controllers and the CLI exchange them."""
