"""A host's network.

Overlays, the tasks' network namespaces, and the rules that keep networks apart.
"""
