"""Secrets and configs on one host."""
