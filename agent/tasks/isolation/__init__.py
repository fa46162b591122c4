"""What isolates a container from its host, in an OCI config."""
