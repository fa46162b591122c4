"""Containers as Docker shows them."""
