"""Which bucket is a version's source: marks, then what names it, then topology, then time; and a tie stays open."""

from __future__ import annotations

import pytest

from crr_monitor.core.model import Status
from crr_monitor.core.roles import find_source
from crr_monitor.core.topology import Topology
from tests.factories import (
    AT,
    AUDIT,
    INFERRED,
    ONE_WAY,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    TWO_WAY,
    answered,
    config,
    confirmed,
    copy_of,
    denied_read,
    denied_write,
    evidence_of,
    failed,
    record_of,
    replica,
    rule,
    user_write,
    written,
)


def statuses(*args: object, **fields: object) -> dict[str | None, Status]:
    """Status of each copy by destination."""
    return {copy.bucket: copy.status for copy in record_of(*args, **fields).copies}  # type: ignore[arg-type]


@pytest.mark.parametrize("topology", [INFERRED, ONE_WAY, TWO_WAY])
def test_marks_decide(topology: Topology) -> None:
    """Where messages carry the service's marks, neither topology nor time is asked."""
    record = record_of(user_write(at=AT + 5), replica(at=AT), topology=topology)
    assert (record.source_bucket, record.status, record.copies[0].bucket) == (SOURCE, Status.COMPLETED, REPLICA)
    assert record.copies[0].lag_ms == 0


@pytest.mark.parametrize("topology", [INFERRED, ONE_WAY, TWO_WAY])
def test_replicas_mark_alone_decides(topology: Topology) -> None:
    """One marked replica tells that the other bucket is the source, even if its time is later."""
    record = record_of(written(at=AT + 5), replica(at=AT), topology=topology)
    assert (record.source_bucket, statuses(written(at=AT + 5), replica(at=AT), topology=topology)) == (
        SOURCE,
        {REPLICA: Status.COMPLETED},
    )


@pytest.mark.parametrize("names", [failed(), denied_read(), confirmed(), answered("completed")])
def test_a_report_names_the_source(names: object) -> None:
    """A bucket for which S3 reports failure or success of replication is the source, whichever write came first."""
    record = record_of(written(at=AT + 5), written(REPLICA, at=AT), names, topology=TWO_WAY)  # type: ignore[arg-type]
    assert record.source_bucket == SOURCE


def test_topology_decides() -> None:
    """A bucket that only receives is a destination, whatever the clocks say."""
    record = record_of(written(at=AT + 5), written(REPLICA, at=AT))
    assert (record.source_bucket, record.status) == (SOURCE, Status.COMPLETED)


def test_replica_without_its_source() -> None:
    """A write in a bucket that only receives is a replica, from the one bucket whose rules could have brought it."""
    record = record_of(written(REPLICA))
    assert (record.source_bucket, record.written_at, record.status) == (SOURCE, None, Status.COMPLETED)
    assert (record.copies[0].lag_ms, record.copies[0].rule_id) == (None, f"to-{REPLICA}")


def test_replica_of_one_of_two_sources() -> None:
    """Where two buckets replicate into one, the source of a lone replica stays unknown."""
    many_to_one = Topology([config(rule()), config(rule(), bucket="returns")])
    record = record_of(written(REPLICA), topology=many_to_one)
    assert (record.source_bucket, record.status) == (None, Status.COMPLETED)


@pytest.mark.parametrize("topology", [INFERRED, TWO_WAY])
def test_time_decides(topology: Topology) -> None:
    """In two-way replication, or where nothing is known, the bucket written first is the source."""
    record = record_of(written(REPLICA, at=AT + 9), written(at=AT + 10), topology=topology)
    assert (record.source_bucket, [copy.bucket for copy in record.copies]) == (REPLICA, [SOURCE])
    assert record.copies[0].lag_ms == 1


def test_chain() -> None:
    """S3 replicates no replica: what arrived in the middle of a chain is expected nowhere else."""
    chain = Topology([config(rule()), config(rule(AUDIT), bucket=REPLICA)])
    assert statuses(written(), written(REPLICA, at=AT + 9), topology=chain) == {REPLICA: Status.COMPLETED}


TIES = [
    (written(), written(REPLICA)),
    (written(whole_seconds=True), written(REPLICA, at=AT + 999)),
    (written(at=AT + 1), written(REPLICA, whole_seconds=True)),
    (written(whole_seconds=True), written(REPLICA, whole_seconds=True)),
]


@pytest.mark.parametrize("events", TIES)
@pytest.mark.parametrize("topology", [INFERRED, TWO_WAY])
def test_tie(events: tuple[object, object], topology: Topology) -> None:
    """Times that are equal, or overlap within their precision, leave roles, copies and time of writing open."""
    record = record_of(*events, topology=topology)  # type: ignore[arg-type]
    assert (record.undecided, record.uncertain, record.settled, record.status) == (True, True, False, Status.UNCERTAIN)
    assert (record.source_bucket, record.copies, record.written_at) == (None, (), None)
    assert record.seen_in == (SOURCE, REPLICA)


@pytest.mark.parametrize("events", TIES)
@pytest.mark.parametrize("more", [replica(), failed(), user_write()])
def test_tie_is_broken_later(events: tuple[object, object], more: object) -> None:
    """Further evidence of any kind settles a tie."""
    record = record_of(*events, more, topology=TWO_WAY)  # type: ignore[arg-type]
    assert (record.undecided, record.source_bucket, record.seen_in) == (False, SOURCE, ())
    assert [copy.status for copy in record.copies] == [Status.COMPLETED]


def test_times_that_touch_are_no_tie() -> None:
    """A whole second ends before the next one begins."""
    record = record_of(written(whole_seconds=True), written(REPLICA, at=AT + 1_000), topology=TWO_WAY)
    assert record.source_bucket == SOURCE


def test_head_swaps_roles() -> None:
    """S3 saying REPLICA of the presumed source makes it the destination, and the other bucket the source."""
    assert statuses(written(REPLICA), topology=TWO_WAY) == {SOURCE: Status.PENDING}
    record = record_of(written(REPLICA, at=AT + 7), answered("replica", REPLICA), topology=TWO_WAY)
    assert (record.source_bucket, record.written_at) == (SOURCE, None)
    assert [(copy.bucket, copy.status, copy.replicated_at) for copy in record.copies] == [
        (REPLICA, Status.COMPLETED, AT + 7)
    ]


def test_head_settles_a_tie() -> None:
    """S3 saying REPLICA of one of two undecided buckets makes the other one the source."""
    record = record_of(*TIES[0], answered("replica", SOURCE), topology=TWO_WAY)
    assert (record.source_bucket, record.copies[0].bucket, record.status) == (REPLICA, SOURCE, Status.COMPLETED)


def test_metadata_failure_names_no_source() -> None:
    """With replica modification sync the replica's bucket reports failures too: they do not turn the roles round."""
    events = (
        written(),
        written(REPLICA, at=AT + 9),
        failed(SOURCE, source=REPLICA, metadata=True, reason="DstPutTaggingNotPermitted"),
    )
    record = record_of(*events, topology=TWO_WAY)
    assert (record.source_bucket, record.copies[0].bucket) == (SOURCE, REPLICA)


def test_metadata_failure_names_a_source_that_nobody_saw() -> None:
    """Where nothing else tells the source of a replica, a report about its metadata does."""
    record = record_of(replica(), failed(metadata=True), topology=INFERRED)
    assert (record.source_bucket, record.copies[0].metadata_failure_reason) == (SOURCE, "DstKmsKeyNotFound")


def test_denied_write_names_no_source() -> None:
    """A denied call at the destination tells the source only through topology."""
    assert find_source(evidence_of(denied_write())) == (None, False)
    assert record_of(denied_write()).source_bucket == SOURCE
    assert record_of(denied_write(), topology=INFERRED).source_bucket is None


def test_same_name_at_both_ends() -> None:
    """In Ceph's multisite source and replica have buckets of one name: a copy in the same bucket is a copy."""
    record = record_of(written(), replica(SOURCE), topology=INFERRED)
    assert (record.source_bucket, record.written_at) == (None, None)
    marked = record_of(user_write(), replica(SOURCE), topology=INFERRED)
    assert (marked.source_bucket, marked.copies[0].bucket, marked.copies[0].lag_ms) == (SOURCE, SOURCE, 10_000)


def test_two_messages_that_contradict_each_other() -> None:
    """Should two buckets be named as the source, the one with the earlier write is believed."""
    record = record_of(user_write(at=AT + 5), user_write(REPLICA, at=AT), topology=TWO_WAY)
    assert record.source_bucket == REPLICA


def test_mark_beats_a_report() -> None:
    """A bucket that holds a marked replica is not the source if another one is named."""
    record = record_of(user_write(at=AT + 5), replica(at=AT), failed(source=REPLICA, destination=AUDIT))
    assert record.source_bucket == SOURCE


def test_one_write_where_nothing_is_known() -> None:
    """Without a topology a write is kept aside until a replica shows up; then the pair is inferred."""
    alone = record_of(written(), topology=INFERRED)
    assert (alone.status, alone.copies, alone.settled, alone.undecided) == (Status.HIDDEN, (), True, False)
    assert copy_of(written(), replica(), topology=INFERRED).status is Status.COMPLETED
    assert record_of(user_write(), topology=INFERRED).status is Status.HIDDEN


def test_user_marker_in_a_destination_is_no_replica() -> None:
    """A delete marker where no inbound rule replicates markers came from a user, so it leaves no record."""
    twice = (written(REPLICA, delete_marker=True), replica(REPLICA, delete_marker=True))
    record = record_of(*twice)
    assert record.status is Status.COMPLETED  # the service's own mark is believed
    with pytest.raises(IndexError):
        evidence_of(written(REPLICA, delete_marker=True))
    assert record_of(
        written(REPLICA, delete_marker=True), topology=Topology([config(rule(delete_markers=True))])
    ).copies


def test_both_destinations() -> None:
    """Each destination has its own copy, completed or not."""
    assert statuses(user_write(), replica(AUDIT), topology=TWO_DESTINATIONS) == {
        REPLICA: Status.PENDING,
        AUDIT: Status.COMPLETED,
    }
