"""Deterministic event streams with their truth: what S3 would have told of so many objects, and what is then so.

A :class:`Plan` says what happens. :func:`run` writes it as files, :func:`messages` and :func:`truth` give it without
files, :func:`compare` holds a store against the truth. Everything streams.
"""

from crr_monitor.simulate.check import Difference, Differences, Lookup, compare
from crr_monitor.simulate.files import Summary, run
from crr_monitor.simulate.plan import KINDS, WRAPPERS, Kind, Layout, Plan, SimulateError, Wrapper
from crr_monitor.simulate.stream import messages
from crr_monitor.simulate.truth import truth
from crr_monitor.simulate.world import topology

__all__ = [
    "KINDS",
    "WRAPPERS",
    "Difference",
    "Differences",
    "Kind",
    "Layout",
    "Lookup",
    "Plan",
    "SimulateError",
    "Summary",
    "Wrapper",
    "compare",
    "messages",
    "run",
    "topology",
    "truth",
]
