"""Validation of templates in specs. PURE."""
