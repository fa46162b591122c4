"""Bounds of the fleet's registry, with their reasons. PURE."""

REGISTRY_PORT = 2378
"""Of nodes. Beside the controllers' port, so that one rule of a firewall covers both."""
REGISTRY_PASSWORD_LEAST = 16
"""Characters of the password of a connection through the controller."""
REGISTRY_ANSWER_S = 2.0
"""A node passes over a registry of the fleet that is silent for this long."""
CARRIED_WINDOW = 1024 * 1024
CARRIED_FRAME_BYTES = 256 * 1024
"""Of a connection through the controller: bytes that an end holds, and of one frame. A push of
layers in frames of 60 KiB takes twice the processor time. A tool has about six connections.
"""
