"""Who calls, what callers may do, and what keeps that confidential."""
