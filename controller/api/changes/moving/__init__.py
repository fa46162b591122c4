"""Moves, holds, lost copies and sizes of volumes, as users, agents and the copier request them.
PURE.
"""
