"""The status of each copy, and what its record says of times, failures and their repair."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.events import Mark
from crr_monitor.core.interpret import interpret
from crr_monitor.core.model import Copy, Status
from crr_monitor.core.status import COPY_STATUS
from crr_monitor.core.topology import Topology
from tests.factories import (
    AT,
    AUDIT,
    BY_TAG,
    INFERRED,
    ONE_WAY,
    REPLICA,
    TWO_DESTINATIONS,
    answered,
    awaited,
    config,
    confirmed,
    copy_of,
    deleted,
    denied_read,
    denied_write,
    failed,
    record_of,
    replica,
    rule,
    user_write,
)

if TYPE_CHECKING:
    from crr_monitor.core.events import Event

EXPECTED = user_write()
LATER = Topology([config(rule(), since=AT + 1)])
"""A configuration that was learned after the version was written."""


def statuses(*events: Event, topology: Topology) -> dict[str | None, Status]:
    """Status of each copy by destination."""
    return {copy.bucket: copy.status for copy in record_of(*events, topology=topology).copies}


EVIDENCE: dict[Status, tuple[Event, ...]] = {
    Status.COMPLETED: (replica(), confirmed(), answered("completed"), answered("replica", REPLICA)),
    Status.FAILED: (failed(), denied_read(), denied_write(), answered("failed"), failed(reason=None)),
    Status.SOURCE_DELETED: (deleted(), answered("gone"), failed(reason="SrcVersionNotFound")),
    Status.NOT_ELIGIBLE: (answered("not-eligible"), failed(reason="SrcObjectNotEligible")),
    Status.PENDING: (awaited(), answered("pending"), failed(reason="SrcReplicationNotPending")),
}
ORDER = list(EVIDENCE)


@pytest.mark.parametrize(("status", "event"), [(status, event) for status in ORDER for event in EVIDENCE[status]])
def test_evidence_of_each_status(status: Status, event: Event) -> None:
    """Each kind of evidence gives an expected copy the status that it proves."""
    assert copy_of(EXPECTED, event).status is status


@pytest.mark.parametrize(
    ("high", "low"),
    [
        (high, low)
        for one, other in product(ORDER, ORDER)
        if ORDER.index(one) < ORDER.index(other)
        for high, low in product(EVIDENCE[one], EVIDENCE[other])
    ],
)
def test_highest_status_holds(high: Event, low: Event) -> None:
    """Of two pieces of evidence the one for the higher status decides, whenever it came."""
    assert copy_of(EXPECTED, high, low).status is copy_of(EXPECTED, high).status


def test_version_has_the_worst_status() -> None:
    """A version is FAILED before PENDING before COMPLETED, as its copies are."""
    both = TWO_DESTINATIONS
    assert record_of(EXPECTED, replica(), topology=both).status is Status.PENDING
    assert record_of(EXPECTED, replica(), failed(AUDIT), topology=both).status is Status.FAILED
    assert record_of(EXPECTED, replica(), replica(AUDIT), topology=both).status is Status.COMPLETED
    assert record_of(EXPECTED, replica(), deleted(), topology=both).status is Status.COMPLETED
    assert record_of(EXPECTED, deleted(), topology=both).status is Status.SOURCE_DELETED
    assert statuses(EXPECTED, replica(), deleted(), topology=both) == {
        REPLICA: Status.COMPLETED,
        AUDIT: Status.SOURCE_DELETED,
    }


@pytest.mark.parametrize(("facts", "status"), [(0, Status.HIDDEN), (32, Status.UNCERTAIN), (63, Status.COMPLETED)])
def test_table(facts: int, status: Status) -> None:
    """The table answers for no evidence, for a possibility, and for all evidence at once."""
    assert COPY_STATUS[facts] is status


def test_deletion_at_the_destination_changes_nothing() -> None:
    """That a version is gone from a destination says nothing about its source; a copy that arrived stays so."""
    assert copy_of(EXPECTED, deleted(REPLICA)).status is Status.PENDING
    assert copy_of(EXPECTED, answered("gone", REPLICA)).status is Status.PENDING
    assert copy_of(EXPECTED, replica(), deleted(REPLICA)).status is Status.COMPLETED


def test_deletion_alone_makes_no_copy() -> None:
    """A deletion makes no copy where nothing expected one."""
    assert record_of(EXPECTED, deleted(), topology=LATER).status is Status.HIDDEN
    assert record_of(deleted()).status is Status.HIDDEN


@pytest.mark.parametrize("event", [failed(metadata=True), denied_read(metadata=True)])
def test_metadata_failure(event: Event) -> None:
    """A failed tag, ACL or lock change is told apart and changes no status."""
    for before in ((EXPECTED,), (EXPECTED, replica())):
        copy, after = copy_of(*before), copy_of(*before, event)
        assert (after.status, after.failed_at, after.failure_reason) == (copy.status, None, None)
        assert after.metadata_failed_at == AT + 30_000
        assert after.metadata_failure_reason == event.reason  # type: ignore[union-attr]


def test_metadata_failure_of_a_benign_reason() -> None:
    """A tag change that finds its version gone says nothing of the version's own replication."""
    assert copy_of(EXPECTED, failed(metadata=True, reason="SrcObjectNotFound")).status is Status.PENDING


def test_metadata_failure_alone_makes_no_record() -> None:
    """A failed metadata change of a version that is not known makes no copy."""
    assert record_of(failed(metadata=True)).status is Status.HIDDEN


@pytest.mark.parametrize(
    "event",
    [failed(source=None, reason="SrcObjectNotFound"), answered("pending"), denied_write(reason="SrcKeyNotFound")],
)
def test_nothing_new(event: Event) -> None:
    """What tells nothing leaves no evidence at all."""
    assert interpret(event, ONE_WAY) is None


class TestWhereItFailed:
    """A failure whose message names no destination."""

    def test_all_destinations_that_a_rule_took(self) -> None:
        """It holds for every destination of the version, and a copy that has arrived stays COMPLETED."""
        assert statuses(EXPECTED, denied_read(), topology=TWO_DESTINATIONS) == dict.fromkeys(
            (REPLICA, AUDIT), Status.FAILED
        )
        assert statuses(EXPECTED, denied_read(), replica(), topology=TWO_DESTINATIONS) == {
            REPLICA: Status.COMPLETED,
            AUDIT: Status.FAILED,
        }

    def test_nothing_is_known_of_destinations(self) -> None:
        """An anonymous copy fails where no destination is known, and gives way to the one that is seen."""
        anonymous = copy_of(denied_read(), topology=INFERRED)
        assert (anonymous.bucket, anonymous.status) == (None, Status.FAILED)
        assert copy_of(denied_read(), failed(), topology=INFERRED).bucket == REPLICA
        repaired = copy_of(denied_read(), replica(at=AT + 90_000), topology=INFERRED)
        assert (repaired.bucket, repaired.status, repaired.repaired) == (REPLICA, Status.COMPLETED, True)

    def test_only_one_that_may_be_meant(self) -> None:
        """A single uncertain destination is the one that is meant: S3 tries only what a rule took."""
        assert statuses(EXPECTED, denied_read(), topology=BY_TAG) == {REPLICA: Status.FAILED}
        assert statuses(EXPECTED, denied_read(), topology=LATER) == {REPLICA: Status.FAILED}

    def test_not_an_uncertain_one_beside_a_certain(self) -> None:
        """Where one destination is certain and another is not, the certain one is meant."""
        mixed = Topology([config(rule(), rule(AUDIT, tags=(("class", "gold"),)))])
        assert statuses(EXPECTED, denied_read(), topology=mixed) == {REPLICA: Status.FAILED, AUDIT: Status.UNCERTAIN}

    @pytest.mark.parametrize("fields", [{"tags": (("class", "gold"),)}, {}])
    def test_never_lost(self, fields: dict[str, Any]) -> None:
        """Of several destinations that may be meant none is accused, and the failure is listed all the same."""
        since = 0 if fields else AT + 1
        possible = Topology([config(rule(**fields), rule(AUDIT, **fields), since=since)])
        record = record_of(EXPECTED, denied_read(), topology=possible)
        assert record.status is Status.FAILED
        assert [copy.bucket for copy in record.copies if copy.status is Status.FAILED] == [None]

    @pytest.mark.parametrize("says", ["completed", "failed"])
    def test_answers_of_the_source(self, says: str) -> None:
        """The source's one status header holds for all destinations that a rule took."""
        expected = Status.COMPLETED if says == "completed" else Status.FAILED
        assert set(statuses(EXPECTED, answered(says), topology=TWO_DESTINATIONS).values()) == {expected}

    def test_no_rule_took_it(self) -> None:
        """That no rule took the version settles every destination of which it was uncertain."""
        two = Topology([config(rule(tags=(("class", "gold"),)), rule(AUDIT, tags=(("class", "gold"),)))])
        record = record_of(EXPECTED, answered("not-eligible"), topology=two)
        assert [copy.status for copy in record.copies] == [Status.NOT_ELIGIBLE] * 2
        assert record.settled


class TestTimes:
    """What is shown of times."""

    def test_lag(self) -> None:
        """The lag is the time from the write to the earliest sighting of the replica, in milliseconds."""
        copy = copy_of(EXPECTED, replica(at=AT + 12_500), replica(at=AT + 12_232))
        assert (copy.replicated_at, copy.lag_ms, copy.evidence) == (AT + 12_232, 12_232, "replica-event")

    def test_clocks_that_cross(self) -> None:
        """A lag is never negative."""
        assert copy_of(EXPECTED, replica(at=AT - 5_000)).lag_ms == 0

    def test_unknown_lag(self) -> None:
        """Without the source's event, or known by a HEAD alone, a copy is COMPLETED without a lag."""
        assert (copy_of(replica()).lag_ms, record_of(replica()).sort_at) == (None, AT + 10_000)
        head = copy_of(EXPECTED, answered("replica", REPLICA))
        assert (head.replicated_at, head.lag_ms, head.evidence) == (None, None, "head")
        batch = copy_of(EXPECTED, answered("completed", label="batch-report"))
        assert batch.evidence == "batch-report"

    def test_confirmation_is_no_later_than_the_sighting(self) -> None:
        """The replica's own event tells its arrival better than the message that says so afterwards."""
        assert copy_of(EXPECTED, confirmed(), replica()).replicated_at == AT + 10_000
        assert copy_of(EXPECTED, confirmed()).lag_ms == 1_200_000

    def test_precision_of_arrival(self) -> None:
        """Two messages that tell of one arrival give the earliest second, as precisely as one of them knows it."""
        events = (EXPECTED, replica(at=AT + 10_000, whole_seconds=True), confirmed(at=AT + 10_400))
        assert (copy_of(*events).replicated_at, record_of(*events).whole_seconds) == (AT + 10_400, False)

    @pytest.mark.parametrize(
        ("events", "whole"),
        [
            ((EXPECTED, replica()), False),
            ((user_write(whole_seconds=True), replica()), True),
            ((EXPECTED, replica(whole_seconds=True)), True),
            ((EXPECTED, failed(whole_seconds=True)), True),
            ((EXPECTED, failed(whole_seconds=True, metadata=True)), True),
            ((EXPECTED, failed(at=AT + 40_000), failed(whole_seconds=True)), False),
            ((EXPECTED, replica(), confirmed(whole_seconds=True)), False),
            ((EXPECTED, deleted(whole_seconds=True)), False),
            ((EXPECTED, answered("failed")), False),
        ],
    )
    def test_time_precision(self, events: tuple[Event, ...], whole: bool) -> None:  # noqa: FBT001 - an expected value
        """The record admits whole seconds exactly where one of the times that it shows has no more."""
        assert record_of(*events).whole_seconds is whole

    def test_precision_of_a_replica_seen_twice(self) -> None:
        """A replica seen with and without the service's mark has the more precise of both times, and says so."""
        unmarked = replica(at=AT + 10_400, mark=Mark.UNKNOWN)
        record = record_of(EXPECTED, replica(at=AT + 10_000, whole_seconds=True), unmarked)
        assert (record.copies[0].replicated_at, record.whole_seconds) == (AT + 10_400, False)


class TestRepair:
    """A failure that is followed by success."""

    @pytest.mark.parametrize("event", [failed(), denied_read(), denied_write(), answered("failed")])
    def test_repaired(self, event: Event) -> None:
        """It is COMPLETED, keeps when and why it failed, and counts as repaired."""
        copy = copy_of(EXPECTED, event, replica(at=AT + 90_000))
        at = None if event.at == AT + 3_600_000 else event.at
        assert (copy.status, copy.failed_at, copy.failure_reason) == (Status.COMPLETED, at, event.reason)  # type: ignore[union-attr]
        assert (copy.repaired, copy.lag_ms) == (True, 90_000)

    def test_failure_after_arrival(self) -> None:
        """A failure reported after the copy had arrived is shown and is no repair."""
        copy = copy_of(EXPECTED, replica(), failed())
        assert (copy.status, copy.failed_at, copy.repaired) == (Status.COMPLETED, AT + 30_000, False)

    def test_first_failure_decides(self) -> None:
        """A failure before and another after the arrival is a repair, and the latest one is shown."""
        copy = copy_of(EXPECTED, failed(at=AT + 5_000), replica(), failed(at=AT + 30_000))
        assert (copy.failed_at, copy.repaired) == (AT + 30_000, True)

    def test_latest_of_two_messages(self) -> None:
        """Of failures told by different kinds of messages the latest one is shown, with its own reason and label."""
        copy = copy_of(EXPECTED, failed(at=AT + 1), denied_write(at=AT + 2), denied_read(at=AT + 3, reason="last"))
        assert (copy.failed_at, copy.failure_reason, copy.evidence) == (AT + 3, "last", "denied-call")


def test_uncertain_is_not_listed() -> None:
    """What a tag filter may take is UNCERTAIN and unsettled until the tags, S3 or a replica tell."""
    record = record_of(EXPECTED, topology=BY_TAG)
    assert (record.status, record.uncertain, record.settled, record.visible_copies) == (
        Status.UNCERTAIN,
        True,
        False,
        (),
    )
    assert record_of(EXPECTED, replica(), topology=BY_TAG).status is Status.COMPLETED
    assert record_of(EXPECTED, user_write(tags={"class": "gold"}), topology=BY_TAG).status is Status.PENDING
    assert record_of(EXPECTED, user_write(tags={"class": "lead"}), topology=BY_TAG).status is Status.HIDDEN


@pytest.mark.parametrize("event", [replica(), failed(), confirmed(), awaited()])
def test_earlier_write_shows_up_with_evidence(event: Event) -> None:
    """A write older than the configuration is expected nowhere, but what happens to it is recorded."""
    assert record_of(EXPECTED, topology=LATER).status is Status.HIDDEN
    known = {replica(): Status.COMPLETED, failed(): Status.FAILED, confirmed(): Status.COMPLETED}
    assert copy_of(EXPECTED, event, topology=LATER).status is known.get(event, Status.PENDING)


def test_inferred_pair_is_never_pending() -> None:
    """Without rules a copy is only ever known by what was seen of it."""
    assert statuses(EXPECTED, replica(), topology=INFERRED) == {REPLICA: Status.COMPLETED}


def test_report_tells_of_the_write() -> None:
    """A failure's message that tells when the version was written is as good as the event of that write."""
    record = record_of(failed(written_at=AT, size=7, etag="e", account="1", region="r"))
    assert (record.written_at, record.size, record.etag) == (AT, 7, "e")
    assert (record.source_account, record.source_region, record.status) == ("1", "r", Status.FAILED)
    outside = record_of(failed(written_at=AT), topology=Topology([config(rule(prefix="other/"))]))
    assert (outside.written_at, outside.copies[0].status) == (AT, Status.FAILED)


def test_copy_tells_its_rule_and_place() -> None:
    """Rule, account and Region come from the topology; the replica's own message knows its place better."""
    placed = Topology([config(rule(destination_account="4")), config(bucket=REPLICA, region="eu-west-1")])
    assert copy_of(EXPECTED, topology=placed) == Copy(REPLICA, Status.PENDING, "4", "eu-west-1", f"to-{REPLICA}")
    seen = copy_of(EXPECTED, replica(account="5"), topology=placed)
    assert (seen.account, seen.region, seen.rule_id) == ("5", "eu-west-1", f"to-{REPLICA}")
    assert copy_of(failed(rule_id="told"), topology=INFERRED).rule_id == "told"


def test_delete_marker() -> None:
    """Delete markers have neither size nor ETag, and their sort time is that of the write."""
    markers = Topology([config(rule(delete_markers=True))])
    record = record_of(user_write(delete_marker=True, size=0, etag="d41d8"), replica(), topology=markers)
    assert (record.delete_marker, record.size, record.etag, record.sort_at) == (True, None, None, AT)
