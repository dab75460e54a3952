"""Stores keep the merged evidence and the statistics: ``base`` is the port, all behind it pass one contract suite."""
