"""A host's network.

Overlays, the tasks' network namespaces, and the packet filter.
"""
