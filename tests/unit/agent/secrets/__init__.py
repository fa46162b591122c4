"""Secrets and configs on a host."""
