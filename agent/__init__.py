"""The agent: the daemon on each host that runs tasks as containers on overlay networks."""
