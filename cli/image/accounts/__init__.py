"""`login` and `logout`: the user's logins for registries."""
