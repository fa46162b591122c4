"""Byte streams between users and tasks: frames, requests, and credit for data."""
