"""The agent's network on real kernels.

Hosts are network namespaces joined by an underlay bridge.
"""
