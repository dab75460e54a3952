"""Events to evidence: interpreted, and merged by object version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.core.events import Answered
from crr_monitor.core.interpret import interpret
from crr_monitor.core.merge import merge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.core.events import Event
    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.topology import Topology
    from crr_monitor.stores.base import VersionKey


def collect(events: Iterable[Event], topology: Topology, into: dict[VersionKey, Evidence]) -> int | None:
    """Interpret events and merge them by object version; returns the latest time among them, if any."""
    newest = -1
    for event in events:
        if event.at > newest and not isinstance(event, Answered):
            newest = event.at
        news = interpret(event, topology)
        if news is None:
            continue
        version = (event.key, event.version_id)
        known = into.setdefault(version, news)
        if known is not news:
            into[version] = merge(known, news)
    return None if newest < 0 else newest
