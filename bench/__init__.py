"""Benchmarks: time, processor time and memory, each compared with a bound."""

import pyswarm_core  # noqa: F401  # before gRPC is imported
