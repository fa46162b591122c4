"""Use cases: state and request in; writes, views or streams out. No transport is imported."""
