"""Canaries: tiny objects that the monitor writes itself, so that a pair without traffic shows whether it is alive.

A canary lies below ``FOLDER``, behind the prefix of a rule that takes it, and is written as S3's own encryption has
it. Its record is made from events like any other, but it is nobody's object: statistics, backlog, archive and questions
to S3 leave it out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from crr_monitor.core.canary_keys import FOLDER, canary_key
from crr_monitor.core.events import Mark, Written
from crr_monitor.core.evidence import Taken
from crr_monitor.core.model import Status
from crr_monitor.core.reconcile import Place
from crr_monitor.core.times import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.core.model import Record
    from crr_monitor.core.topology import Rule, Topology

LONGEST_MS = DAY_MS
"""A canary that has not arrived is removed when it is so old."""

BODY = b"CRR Monitor writes this object to see whether replication works, and removes it again.\n"

PAIR = re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?::([a-z0-9][a-z0-9.-]{1,61}[a-z0-9]))?")
"""``SOURCE`` or ``SOURCE:DESTINATION``."""


class Canary(Struct, frozen=True):
    """One object that is written again and again.

    ``destinations`` are all buckets to which rules take it, ``asked`` those of them whose pair was asked for.
    """

    source: Place
    key: str
    destinations: tuple[Place, ...]
    asked: tuple[str, ...]


def pair_name(source: str, destination: str) -> str:
    """How the note of what arrived names a pair."""
    return f"{source} {destination}"


def plan(topology: Topology, pairs: Iterable[str], name: str, now: int) -> tuple[list[Canary], list[str]]:
    """The canaries for some pairs (``SOURCE`` or ``SOURCE:DESTINATION``), and what is wrong with others.

    ``name`` ends every key; ``now`` in milliseconds, as a rule counts from when it was learned.
    """
    found: dict[tuple[str, str], Canary] = {}
    problems: list[str] = []
    for text in dict.fromkeys(each.strip() for each in pairs if each.strip()):
        match = PAIR.fullmatch(text)
        if match is None:
            problems.append(f"canary {text}: write SOURCE or SOURCE:DESTINATION, the names of two buckets")
            continue
        for destination in _destinations(topology, *match.groups()):
            made = _canary(topology, match[1], destination, name, now)
            if made is None:
                problems.append(_refusal(topology, match[1], destination))
                continue
            known = found.setdefault((match[1], made.key), made)
            if destination not in known.asked:
                found[match[1], made.key] = replace(known, asked=(*known.asked, destination))
    return list(found.values()), problems


def _destinations(topology: Topology, source: str, destination: str | None) -> list[str]:
    """The destination that was named, or all that the source's rules have; of an unknown source an empty name."""
    if destination is not None:
        return [destination]
    return sorted({rule.destination for rule in _rules(topology, source)}) or [""]


def _rules(topology: Topology, source: str, destination: str | None = None) -> list[Rule]:
    """The source's enabled rules, highest priority first."""
    rules = [pair.rule for pair in topology.pairs() if pair.source.bucket == source and pair.rule.enabled]
    wanted = [rule for rule in rules if destination in {None, rule.destination}]
    return sorted(wanted, key=lambda rule: -rule.priority)


def _canary(topology: Topology, source: str, destination: str, name: str, now: int) -> Canary | None:
    """A canary that certainly is taken to the destination; ``None`` where no rule does that."""
    for rule in _rules(topology, source, destination):
        key = canary_key(rule.prefix, name)
        write = Written(source, key, "canary", now, whole_seconds=False, mark=Mark.SOURCE, tags={}, kms=False)
        answers = {each.bucket: each for each in topology.expected(write)}
        if destination in answers and answers[destination].taken is Taken.YES:
            taken = [each for each in answers.values() if each.taken is not Taken.NO]
            places = tuple(Place(each.bucket, *topology.place(each.bucket, each.account)) for each in taken)
            return Canary(Place(source, *topology.place(source)), key, places, (destination,))
    return None


def _refusal(topology: Topology, source: str, destination: str) -> str:
    if not _rules(topology, source):
        return f"canary {source}: no enabled replication rule of this bucket is known: `crr-monitor topology` lists all"
    rules = _rules(topology, source, destination)
    if not rules:
        return f"canary {source}:{destination}: no enabled rule of {source} replicates to {destination}"
    names = ", ".join(rule.rule_id or "(no id)" for rule in rules)
    return (
        f"canary {source}:{destination}: no rule takes it ({names}), as they ask for tags or count only later: add a"
        f" rule without tags for the prefix {FOLDER}, or leave this pair without a canary"
    )


def arrivals(canary: Canary, record: Record) -> Iterator[tuple[str, int, int | None]]:
    """The pairs asked for in which a version of the canary has arrived: name, when written, lag (milliseconds)."""
    if record.written_at is None or record.source_bucket != canary.source.bucket:
        return
    for copy in record.copies:
        if copy.status is Status.COMPLETED and copy.bucket in canary.asked:
            yield pair_name(canary.source.bucket, copy.bucket or ""), record.written_at, copy.lag_ms


def is_over(record: Record | None, written_at: int, now: int) -> bool:
    """Whether a version of a canary may go: all its copies arrived, or it is too old to wait for them."""
    return now - written_at >= LONGEST_MS or (record is not None and record.status is Status.COMPLETED)
