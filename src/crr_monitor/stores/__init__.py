"""Stores keep the merged evidence and the statistics. ``base`` is the port; everything behind it passes one contract suite."""
