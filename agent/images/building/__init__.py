"""Builds on this host: buildah in the storage of the host's images."""
