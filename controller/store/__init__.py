"""The store of the fleet's state: one protocol (base), implemented in memory (for tests) and by
etcd.
"""
