"""Validation of secrets and configs. PURE."""
