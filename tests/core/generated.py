"""Hypothesis strategies: events and topologies of few versions and few buckets, so that they meet often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from crr_monitor.core.events import Answered, Awaited, Confirmed, Deleted, Failed, Mark, Written
from crr_monitor.core.interpret import interpret
from crr_monitor.core.topology import BucketConfig, Rule, Topology
from tests.factories import AT

if TYPE_CHECKING:
    from crr_monitor.core.events import Event
    from crr_monitor.core.evidence import Evidence

BUCKETS = ("a", "b", "c", "d")
TAGS: tuple[dict[str, str], ...] = ({"class": "gold"}, {"class": "lead"}, {})
WORDS = (None, "", "x", "DstKmsKeyNotFound", "SrcObjectNotFound", "SrcObjectNotEligible", "SrcReplicationNotPending")

buckets = st.sampled_from(BUCKETS)
perhaps_bucket = st.none() | buckets
moments = st.sampled_from([0, 1, 400, 999, 1_000, 1_400, 60_000, 900_000, 900_001, 2_000_000]).map(lambda ms: AT + ms)
times = st.booleans().flatmap(
    lambda whole: moments.map(lambda at: {"at": at // 1000 * 1000 if whole else at, "whole_seconds": whole})
)
perhaps_name = st.sampled_from([None, "1", "2"])

rules = st.builds(
    Rule,
    rule_id=st.sampled_from([None, "r1", "r2"]),
    destination=buckets,
    enabled=st.sampled_from([True, True, False]),
    priority=st.integers(0, 2),
    prefix=st.sampled_from(["", "k", "other/"]),
    tags=st.sampled_from([(), (), (("class", "gold"),)]),
    delete_markers=st.booleans(),
    kms=st.booleans(),
).filter(lambda rule: not (rule.tags and rule.delete_markers))  # AWS has no such rule
configs = st.builds(
    BucketConfig,
    bucket=buckets,
    account=perhaps_name,
    region=perhaps_name,
    rules=st.lists(rules, max_size=3).map(tuple),
    since=st.sampled_from([0, 0, AT + 500, AT + 60_000]),
)
topologies = st.lists(configs, max_size=4).map(Topology)


@st.composite
def _events(draw: st.DrawFn, keys: tuple[str, ...], versions: tuple[str, ...]) -> Event:
    identity: dict[str, Any] = {"key": draw(st.sampled_from(keys)), "version_id": draw(st.sampled_from(versions))}
    about: dict[str, Any] = {
        "size": draw(st.sampled_from([None, 0, 10, 12])),
        "etag": draw(perhaps_name),
        "account": draw(perhaps_name),
        "region": draw(perhaps_name),
    }
    time: dict[str, Any] = draw(times)
    kind = draw(st.sampled_from([Written, Written, Written, Deleted, Failed, Failed, Confirmed, Awaited, Answered]))
    if kind is Written:
        return Written(
            draw(buckets),
            **identity,
            **time,
            mark=draw(st.sampled_from(Mark)),
            delete_marker=draw(st.sampled_from([False, False, True])),
            **about,
            tags=draw(st.sampled_from([None, *TAGS])),
            storage_class=draw(st.sampled_from([None, "STANDARD", "GLACIER"])),
            kms=draw(st.sampled_from([None, False, True])),
            by_lifecycle=draw(st.booleans()),
        )
    if kind is Deleted:
        return Deleted(draw(buckets), **identity, **time)
    if kind is Answered:
        return Answered(
            draw(buckets),
            **identity,
            says=draw(st.sampled_from(["completed", "failed", "pending", "not-eligible", "gone", "replica"])),
            at=time["at"],
            label=draw(st.sampled_from(["head", "batch-report"])),
            reason=draw(st.sampled_from(WORDS)),
            destination=draw(perhaps_bucket),
        )
    written = draw(st.none() | times)
    about |= {"rule_id": draw(st.sampled_from([None, "r1", "r2"]))}
    if written is not None:
        about |= {"written_at": written["at"], "written_whole_seconds": written["whole_seconds"]}
    if kind is Confirmed:
        return Confirmed(draw(buckets), draw(perhaps_bucket), **identity, **time, **about)
    if kind is Awaited:
        return Awaited(draw(buckets), draw(buckets), **identity, **time, **about)
    source, destination = draw(st.one_of(st.tuples(buckets, perhaps_bucket), st.tuples(perhaps_bucket, buckets)))
    return Failed(
        source,
        destination,
        **identity,
        **time,
        label=draw(st.sampled_from(["failure-event", "denied-call"])),
        reason=draw(st.sampled_from(WORDS)),
        metadata=draw(st.sampled_from([False, False, True])),
        **about,
        delete_marker=draw(st.sampled_from([None, False, True])),
    )


events = _events(("k1", "k2"), ("v1", "v2"))
"""Events about four versions."""

events_of_one = _events(("k1",), ("v1",))
"""Events about one version."""


@st.composite
def _evidence(draw: st.DrawFn) -> Evidence:
    evidence = None
    while evidence is None:
        evidence = interpret(draw(events_of_one), draw(topologies))
    return evidence


evidence = _evidence()
"""What one event about the version told, whatever was known of the topology when it came."""
