"""Docker's syntax of what isolates a container: tmpfs, devices, security options. PURE."""
