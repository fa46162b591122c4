"""Benchmarks: time, processor time and memory, each compared with a bound."""
