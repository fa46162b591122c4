"""Swarm's templates in specs: what they may name, and their text for one task."""
