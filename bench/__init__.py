"""Benchmarks: run one with ``python3 dev.py bench NAME``."""
