"""The comparison with what was written finds what is wrong, and the scenario is what its words say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.model import Copy, Record, Status
from crr_monitor.core.statistics import Cell, CellKey
from crr_monitor.core.topology_document import parse_topology
from crr_monitor.demo.scenario import (
    BUCKETS,
    CYCLE_SECONDS,
    DOWN,
    OUTAGE_FROM,
    OUTAGE_TO,
    PREFIXES,
    RULES,
    bucket_policies,
    configuration,
    outage_at,
)
from crr_monitor.demo.truth import Verdict, Written, check, compare, counted, expected, written

DONE, FAILED, PENDING = Status.COMPLETED, Status.FAILED, Status.PENDING


def record(status: Status, *copies: tuple[str, Status]) -> Record:
    """A record with its copies."""
    made = tuple(Copy(bucket, each) for bucket, each in copies)
    return Record("baskets/k", "v", status, 0, copies=made, source_bucket="orders")


def judged(version: Written, *records: Record) -> Verdict:
    """The verdict over one version."""
    verdict = Verdict()
    check(version, records, verdict)
    return verdict


ORDER = written("orders", "baskets/k", "v")


def test_what_is_written_follows_the_rules() -> None:
    """Each version has the copies that prefix and kind ask for; what a policy refuses will have failed."""
    assert ORDER.copies == {"orders-dr": DONE}
    assert written("orders", "invoices/k", "v").copies == {"orders-dr": DONE, "orders-audit": DONE}
    assert written("orders", "invoices/k", "v", marker=True).copies == {"orders-dr": DONE}
    assert written("photos", "partner/k", "v").copies == {"photos-dr": DONE, "partner-inbox": FAILED}
    assert written("photos", "partner/k", "v").status is FAILED
    assert written("logs", "web/k", "v", marker=True).copies == {}
    assert written("logs", "web/k", "v", marker=True).status is None


def test_a_right_record_agrees() -> None:
    """One record with the right status and copies is recorded, and nothing differs."""
    assert judged(ORDER, record(DONE, ("orders-dr", DONE))) == Verdict(versions=1, copies=1, recorded=1)
    assert judged(ORDER, record(DONE, ("orders-dr", DONE))).agrees


@pytest.mark.parametrize(
    "records",
    [
        [record(PENDING, ("orders-dr", PENDING))],
        [record(DONE, ("orders-audit", DONE))],
        [record(DONE, ("orders-dr", DONE), ("orders-audit", DONE))],
        [record(DONE, ("orders-dr", DONE))] * 2,
        [],
    ],
    ids=["status", "destination", "more", "twice", "none"],
)
def test_a_wrong_record_does_not_agree(records: list[Record]) -> None:
    """Another status, another destination, one too many, two records or none: each is a difference."""
    verdict = judged(ORDER, *records)
    assert not verdict.agrees
    assert len(verdict.differences) == 1
    assert verdict.missing == (not records)


def test_what_no_rule_takes_must_not_be_recorded() -> None:
    """Of a delete marker that no rule takes no record agrees, and any record differs."""
    marker = written("logs", "web/k", "v", marker=True)
    assert judged(marker) == Verdict(versions=1, markers=1, without_rule=1)
    assert judged(marker, record(DONE)).differences == [
        "s3://logs/web/k version v: recorded, but no rule takes it",
    ]


def cell_key(source: str, destination: str, *, marker: bool = False, slot: int = 0) -> CellKey:
    """A cell of the statistics."""
    return CellKey(slot, source, destination, f"to-{destination}", marker)


def test_figures_that_agree_and_figures_that_do_not() -> None:
    """Cells of several slots are summed; a count that is off by one is named with pair, kind and status."""
    versions = [written("orders", f"invoices/{n}", "v") for n in range(3)]
    versions.append(written("orders", "invoices/0", "w", marker=True))
    right = [
        (cell_key("orders", "orders-dr"), Cell(objects=2, completed=2)),
        (cell_key("orders", "orders-dr", slot=1), Cell(objects=1, completed=1)),
        (cell_key("orders", "orders-audit"), Cell(objects=3, completed=3)),
        (cell_key("orders", "orders-dr", marker=True), Cell(objects=1, completed=1)),
    ]
    verdict = Verdict()
    compare(expected(versions), counted(right), verdict)
    assert verdict.agrees
    compare(expected(versions), counted(right[1:]), verdict)
    assert verdict.differences == ["orders -> orders-dr: 3 objects are COMPLETED, and the monitor counts 1"]


def test_the_buckets_rules_are_a_topology() -> None:
    """The monitor's own parser reads every replication configuration, with the pairs that the table has."""
    document = [
        {"account": each.account, "region": each.region, "bucket": each.name}
        | ({"ReplicationConfiguration": configuration(each.name)} if each.name in PREFIXES else {})
        for each in BUCKETS.values()
    ]
    configs = [config for config, _ in parse_topology(document)]
    assert {config.bucket for config in configs} == set(BUCKETS)
    assert sum(len(config.rules) for config in configs) == len(RULES)


def test_only_the_partner_refuses() -> None:
    """Destinations in the other account have a policy, and only that of the refused rule denies."""
    effects = {name: json.loads(text)["Statement"][0]["Effect"] for name, text in bucket_policies().items()}
    assert effects == {"orders-audit": "Allow", "partner-inbox": "Deny", "logs-central": "Allow"}


@given(st.floats(0, 3_600), st.one_of(st.none(), st.integers(1, 3_600)))
def test_an_outage_lasts_while_it_is_told(elapsed: float, length: int | None) -> None:
    """Whenever an outage is due, it is the same from its beginning to before its end, and takes part of its cycle."""
    outage = outage_at(elapsed, length)
    if outage is None:
        return
    cycle = CYCLE_SECONDS if length is None else min(CYCLE_SECONDS, length)
    assert outage.begins <= elapsed < outage.ends
    assert outage_at((outage.begins + outage.ends) / 2, length) == outage
    assert outage.ends - outage.begins == pytest.approx((OUTAGE_TO - OUTAGE_FROM) * cycle)


def test_regions_take_turns_in_being_down() -> None:
    """A minute has one outage, the next minute another Region's; a short demo has one, too."""
    assert [outage_at(at, None) is not None for at in (0, 14.9, 15, 32.9, 33, 59)] == [0, 0, 1, 1, 0, 0]
    found = [outage_at(at, None) for at in (20, 80, 140)]
    assert [each.region for each in found if each] == [DOWN[0], DOWN[1], DOWN[0]]
    short = outage_at(3, 10)
    assert short is not None
    assert (short.begins, short.ends) == (2.5, 5.5)
