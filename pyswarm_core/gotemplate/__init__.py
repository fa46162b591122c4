"""Go's text/template as far as Docker uses it. PURE."""
