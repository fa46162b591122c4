"""Use cases of secrets and configs."""
