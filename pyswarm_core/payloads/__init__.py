"""Secrets and configs. PURE."""
