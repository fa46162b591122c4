"""What users and agents change: state and request in, writes out. PURE."""
