"""The pure core: what a piece of evidence is, how evidence merges, and which status follows.

Nothing here does I/O, reads a clock, logs, or knows an SDK; ``tests/test_architecture.py`` proves it.
"""
