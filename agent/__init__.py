"""The daemon on each host: runs its tasks as containers and joins them to overlay networks."""
