"""Failed versions in groups, what each has to have mended, and the lines of a manifest."""

from __future__ import annotations

import csv
import io
from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.canary_keys import canary_key
from crr_monitor.core.failures import CATALOGUE, Effect
from crr_monitor.core.repair import (
    MARKERS_NOTE,
    NO_SOURCE,
    Group,
    Place,
    RepairPlan,
    Selection,
    cause_of,
    manifest_line,
)
from crr_monitor.core.topology import Topology
from tests.factories import (
    AT,
    AUDIT,
    INFERRED,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    answered,
    config,
    confirmed,
    denied_write,
    failed,
    record_of,
    rule,
    user_write,
)

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda key: len(key.encode()) <= 1_024)


def only(plan: RepairPlan) -> Group:
    """The one group of a plan."""
    (group,) = plan.groups()
    return group


def codes(plan: RepairPlan) -> list[tuple[str, ...]]:
    """The reasons of each group, in the plan's order."""
    return [tuple(cause.reason for cause in group.causes) for group in plan.groups()]


def test_versions_with_the_same_cause_are_one_group() -> None:
    """Versions, copies, bytes and destinations are counted; the oldest failure's time is kept."""
    plan = RepairPlan()
    for number, size in enumerate((5, 7)):
        key = f"a/{number}"
        plan.add(record_of(user_write(key=key, size=size), failed(key=key, at=AT + 40_000 - number)))
    group = only(plan)
    assert (group.versions, group.copies, group.size, group.unknown_sizes) == (2, 2, 12, 0)
    assert group.oldest_failed_at == AT + 39_999
    assert group.destinations == {REPLICA: 2}
    assert group.retry


def test_a_version_with_two_causes_is_in_one_group() -> None:
    """Failed at two destinations by two causes: one group with both, apart from versions with one of them."""
    plan = RepairPlan()
    both = (failed(reason="DstKmsKeyNotFound"), failed(AUDIT, reason="DstBucketNotFound"))
    plan.add(record_of(user_write(size=3), *both, topology=TWO_DESTINATIONS))
    plan.add(record_of(user_write(key="b"), failed(key="b", reason="DstKmsKeyNotFound")))
    plan.add(record_of(user_write(key="c"), failed(key="c", reason="DstKmsKeyNotFound")))
    assert codes(plan) == [("DstKmsKeyNotFound",), ("DstBucketNotFound", "DstKmsKeyNotFound")]
    second = plan.groups()[1]
    assert (second.versions, second.copies, second.size, second.destinations) == (1, 2, 6, {AUDIT: 1, REPLICA: 1})


def test_what_no_retry_helps_is_apart_and_last() -> None:
    """A version of which no cause can be helped has a group that says so, with what helps instead."""
    plan = RepairPlan()
    for key in "abc":
        plan.add(record_of(user_write(key=key), failed(key=key, reason="DstObjectHardDeleted")))
    plan.add(record_of(user_write(key="d"), failed(key="d")))
    assert codes(plan) == [("DstKmsKeyNotFound",), ("DstObjectHardDeleted",)]
    assert [group.retry for group in plan.groups()] == [True, False]
    assert "copy the object in place" in plan.groups()[1].causes[0].fix


def test_one_cause_that_a_retry_helps_is_enough() -> None:
    """The version is retried, though one of its copies stays as it is."""
    plan = RepairPlan()
    both = (failed(reason="DstObjectHardDeleted"), failed(AUDIT, reason="DstBucketNotFound"))
    plan.add(record_of(user_write(), *both, topology=TWO_DESTINATIONS))
    assert only(plan).retry
    assert [cause.retry for cause in only(plan).causes] == [True, False]


def test_source_buckets_are_apart() -> None:
    """Each source bucket is a group of its own, since a job runs in the bucket's Region and account."""
    topology = Topology([config(rule()), config(rule(), bucket="invoices")])
    plan = RepairPlan()
    plan.add(record_of(user_write(), failed(), topology=topology))
    plan.add(record_of(user_write("invoices", key="b"), failed(source="invoices", key="b"), topology=topology))
    assert sorted(str(group.source.bucket) for group in plan.groups()) == ["invoices", SOURCE]
    assert len({group.name for group in plan.groups()}) == 2


def test_topology_tells_where_the_bucket_is() -> None:
    """Account and Region come from the topology where the record does not tell them."""
    topology = Topology([config(rule(), account="111122223333", region="us-east-1")])
    plan = RepairPlan(topology=topology)
    plan.add(record_of(user_write(), failed()))
    assert only(plan).source == Place(SOURCE, "111122223333", "us-east-1")


def test_unknown_source() -> None:
    """A denied write tells no source: nothing can be retried, and the note says what to do."""
    plan = RepairPlan()
    plan.add(record_of(denied_write(), topology=INFERRED))
    group = only(plan)
    assert (group.source, group.retry, group.notes) == (Place(None), False, (NO_SOURCE,))
    assert [cause.reason for cause in group.causes] == ["AccessDenied s3:ReplicateObject"]


def test_delete_markers_have_a_note() -> None:
    """They are counted, have no size that could be unknown, and come with S3's caution."""
    plan = RepairPlan()
    events = (user_write(delete_marker=True), failed(reason="DstDelObjNotPermitted"))
    plan.add(record_of(*events, topology=Topology([config(rule(delete_markers=True))])))
    group = only(plan)
    assert (group.delete_markers, group.size, group.unknown_sizes, group.notes) == (1, 0, 0, (MARKERS_NOTE,))


def test_what_arrived_or_waits_is_not_repaired() -> None:
    """Completed and pending versions are in no group, though one of them failed before."""
    plan = RepairPlan()
    assert plan.add(record_of(user_write())) is None
    assert plan.add(record_of(user_write(), failed(), confirmed())) is None
    assert plan.groups() == []


def test_canaries_are_not_repaired() -> None:
    """The monitor's own objects are removed soon, whether they arrive or not."""
    key = canary_key("data/", "a")
    assert RepairPlan().add(record_of(user_write(key=key), failed(key=key))) is None


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(REPLICA), True),
        (Selection(AUDIT), False),
        (Selection(reasons=frozenset({"DstKmsKeyNotFound", "x"})), True),
        (Selection(reasons=frozenset({"DstBucketNotFound"})), False),
        (Selection(REPLICA, frozenset({"DstBucketNotFound"})), False),
    ],
)
def test_selection(selection: Selection, *, taken: bool) -> None:
    """A version is taken when a failed copy of it has the destination and one of the reasons."""
    record = record_of(user_write(), failed(), topology=TWO_DESTINATIONS)
    assert (RepairPlan(selection).add(record) is not None) == taken


def test_selected_by_one_copy_is_grouped_by_all() -> None:
    """A retry is of the whole version, so its group has the causes of all failed copies."""
    plan = RepairPlan(Selection(AUDIT))
    both = (failed(reason="DstKmsKeyNotFound"), failed(AUDIT, reason="DstBucketNotFound"))
    plan.add(record_of(user_write(), *both, topology=TWO_DESTINATIONS))
    assert codes(plan) == [("DstBucketNotFound", "DstKmsKeyNotFound")]


def test_reason_that_nobody_told() -> None:
    """HEAD tells no reason; a retry is worth it, since its report does. It can be selected as unknown."""
    record = record_of(user_write(), answered("failed"))
    plan = RepairPlan(Selection(reasons=frozenset({"unknown"})))
    plan.add(record)
    assert codes(plan) == [("unknown",)]
    assert only(plan).retry
    assert only(plan).oldest_failed_at is None


def test_reason_that_nobody_knows() -> None:
    """A code that is newer than the catalogue is taken as it is, and retried."""
    cause = cause_of("DstMoonNotFull")
    assert (cause.reason, cause.retry) == ("DstMoonNotFull", True)


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_catalogue_decides_whether_a_retry_helps(code: str) -> None:
    """Each known reason has its own cause, fix and answer; what is no failure is never helped by a retry."""
    known, cause = CATALOGUE[code], cause_of(code)
    assert (cause.text, cause.fix, cause.retry) == (known.cause, known.fix, known.retry)
    assert known.effect is Effect.FAILED or not cause.retry


def test_group_name_is_a_file_name() -> None:
    """Words of a denial become a name without spaces or colons, however many reasons there are."""
    causes = tuple(cause_of(f"AccessDenied s3:Put{number}") for number in range(40))
    name = Group(Place("a.b-c", "1", "2"), causes).name
    assert name.startswith("a.b-c.AccessDenied-s3-Put0+")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-")
    assert len(name) < 200


@given(key=KEYS, version=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_key_survives_the_manifest(key: str, version: str) -> None:
    """One line, in ASCII but for the version id; whoever decodes it, with plus as space or not, reads the same key."""
    line = manifest_line("orders", key, version)
    ((bucket, encoded, told),) = csv.reader(io.StringIO(line.decode(), newline=""), strict=True)
    assert (bucket, told) == ("orders", version)
    assert encoded.isascii()
    assert unquote(encoded, errors="strict") == unquote_plus(encoded, errors="strict") == key


def test_manifest_line() -> None:
    """Slashes stay, all else that is special is encoded; there is no header and no space."""
    line = manifest_line("orders", '2026/a b+c é,"\n.txt', "3v567TKl.b_Y1m")
    assert line == b"orders,2026/a%20b%2Bc%20%C3%A9%2C%22%0A.txt,3v567TKl.b_Y1m\n"
