"""Verbs that act on the processes of containers, or wait for them."""
