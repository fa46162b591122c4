"""Shells that controller, agent and CLI share: time, randomness, channels, logging, metrics."""
