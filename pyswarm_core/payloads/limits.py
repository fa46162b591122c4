"""Limits of secrets and configs, with their reasons. PURE."""

SECRET_BYTES_MAX = 500 * 1024
"""The data of a secret has fewer bytes, as in Docker."""
CONFIG_BYTES_MAX = 1000 * 1024
"""The data of a config has fewer bytes, as in Docker."""
PAYLOADS_MAX = 10_000
"""Versions of all secrets, and of all configs."""
PAYLOADS_BYTES_MAX = 256 * 1024 * 1024
"""The data of all secrets, and of all configs: controllers hold it in memory."""
PAYLOAD_NAME_MAX = 64
"""Docker's limit of names of secrets and configs."""
VERSIONS_KEPT_MAX = 100
REFERENCES_MAX = 1_000
"""Secrets and configs of one container."""
PAYLOAD_REQUEST_BYTES_MAX = 1280 * 1024
"""A request with the data of a secret or config."""
SLICE_FOLLOWERS = 20
"""Services that one slice of an update looks at (0.2 to 0.6 ms for each that gets the version)."""
