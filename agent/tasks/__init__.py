"""What happens to a task on its node. PURE: the machine, its record, adoption after a restart, the
OCI config.
"""
