"""Use cases: state and request in; writes, views or streams out. Knows no transport."""
