"""Queries of users: state and request in, views out."""
