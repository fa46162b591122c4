"""The host's packet filter: what its table holds, and how one version of it becomes the next."""
