"""The tasks of a node. PURE: state machine, record, adoption after a restart, OCI config."""
