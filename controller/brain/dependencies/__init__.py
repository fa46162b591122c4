"""`depends_on`: services that wait for others, follow them, and end before them. PURE."""
