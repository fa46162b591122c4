"""Volumes and mounts: what users request, and what is stored."""
