"""Overdue versions: whom to ask, what the answers prove, when to ask again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.interpret import interpret
from crr_monitor.core.merge import merge
from crr_monitor.core.model import OPEN, Status
from crr_monitor.core.reconcile import (
    LONGEST_MS,
    LONGEST_UNASKED_MS,
    OVERDUE_MS,
    Found,
    Missing,
    Place,
    Unasked,
    conclude,
    meaning,
    next_due,
    replicas_to_ask,
    sources_to_ask,
)
from crr_monitor.core.status import derive
from crr_monitor.core.times import HOUR_MS, MINUTE_MS
from crr_monitor.core.topology import Topology
from tests.core.generated import evidence
from tests.factories import (
    AT,
    AUDIT,
    BY_TAG,
    ONE_WAY,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    TWO_WAY,
    config,
    denied_read,
    denied_write,
    evidence_of,
    failed,
    replica,
    rule,
    user_write,
    written,
)

if TYPE_CHECKING:
    from crr_monitor.core.events import Event
    from crr_monitor.core.evidence import Evidence
    from crr_monitor.core.model import Record
    from crr_monitor.core.reconcile import Reply

NOBODY = Topology()
NO_STATUS = Found()
SILENT = Found(silent=True)
DENIED = Unasked("denied", "no")
COMPLETED, FAILED, PENDING = Status.COMPLETED, Status.FAILED, Status.PENDING
NOT_ELIGIBLE, GONE, UNCERTAIN = Status.NOT_ELIGIBLE, Status.SOURCE_DELETED, Status.UNCERTAIN
GOLD_AUDIT = Topology([config(rule(), rule(AUDIT, tags=(("class", "gold"),)))])
"""Everything goes to the replica, and what has a tag also to the audit bucket."""


def said(status: Any) -> Found:  # noqa: ANN401 - one of the statuses
    """The version is there, with a status."""
    return Found(status)


def after(known: Evidence, replies: dict[str, Reply], **options: bool) -> Record:
    """The record once the answers are evidence."""
    for event in conclude(derive(known), replies, AT, **options):
        news = interpret(event, NOBODY)
        if news is not None:
            known = merge(known, news)
    return derive(known)


def statuses(record: Record) -> dict[str | None, Status]:
    """Of each copy."""
    return {copy.bucket: copy.status for copy in record.copies}


# When -----------------------------------------------------------------------------------------------------------------


def test_pauses_double() -> None:
    """After the threshold of 15 minutes the pauses are 15, 30, 60 minutes and so on, and at last six hours."""
    pauses = [next_due(asks, AT) - AT for asks in range(1, 8)]
    assert pauses == [15 * MINUTE_MS, 30 * MINUTE_MS, HOUR_MS, 2 * HOUR_MS, 4 * HOUR_MS, 6 * HOUR_MS, 6 * HOUR_MS]


@given(st.integers(1, 10_000), st.integers(1, 10**12), st.booleans())
def test_a_pause_is_bounded(asks: int, overdue: int, answered: bool) -> None:  # noqa: FBT001
    """No pause is shorter than the threshold, nor longer than the longest or the threshold."""
    longest = LONGEST_MS if answered else LONGEST_UNASKED_MS
    pause = next_due(asks, AT, overdue, answered=answered) - AT
    assert min(overdue, longest) <= pause <= max(overdue, longest)


def test_nobody_answers() -> None:
    """What nobody answered is asked again within the hour, as the permission may be there by then."""
    assert next_due(9, AT, answered=False) - AT == HOUR_MS == LONGEST_UNASKED_MS
    assert next_due(1, AT, answered=False) - AT == OVERDUE_MS


# Whom -----------------------------------------------------------------------------------------------------------------


def test_the_source_first() -> None:
    """The source is asked where it is, as the message or the topology tells."""
    record = derive(evidence_of(user_write(account="1", region="r1")))
    assert sources_to_ask(record, NOBODY) == (Place(SOURCE, "1", "r1"),)
    record = derive(evidence_of(user_write()))
    assert sources_to_ask(record, Topology([config(account="2", region="r2")])) == (Place(SOURCE, "2", "r2"),)
    assert sources_to_ask(record, NOBODY) == (Place(SOURCE),)


def test_no_source_is_known() -> None:
    """A denial that names only the destination, to which nobody is known to replicate: the replica is asked."""
    record = derive(evidence_of(denied_write(), topology=NOBODY))
    assert sources_to_ask(record, NOBODY) == ()
    assert replicas_to_ask(record, NOBODY, {}) == (Place(REPLICA),)
    assert after(evidence_of(denied_write(), topology=NOBODY), {REPLICA: said("REPLICA")}).status is COMPLETED


def test_undecided() -> None:
    """Of a version that was written in two buckets at the same time both are asked, and no replicas."""
    record = derive(evidence_of(written(), written(REPLICA), topology=TWO_WAY))
    assert sources_to_ask(record, NOBODY) == (Place(SOURCE), Place(REPLICA))
    assert replicas_to_ask(record, NOBODY, {}) == ()


@pytest.mark.parametrize(
    ("reply", "one", "two"),
    [
        (said("COMPLETED"), (), (AUDIT, REPLICA)),
        (said("PENDING"), (), (AUDIT, REPLICA)),
        (said("REPLICA"), (), ()),
        (said("FAILED"), (REPLICA,), (AUDIT, REPLICA)),
        (NO_STATUS, (REPLICA,), (AUDIT, REPLICA)),
        (SILENT, (REPLICA,), (AUDIT, REPLICA)),
        (Missing(), (REPLICA,), (AUDIT, REPLICA)),
        (DENIED, (REPLICA,), (AUDIT, REPLICA)),
    ],
    ids=repr,
)
def test_then_the_replicas(reply: Reply, one: tuple[str, ...], two: tuple[str, ...]) -> None:
    """Replicas are asked unless the source's word is enough: for one copy it may be, for several it is not."""
    for topology, expected in ((ONE_WAY, one), (TWO_DESTINATIONS, two)):
        record = derive(evidence_of(user_write(), topology=topology))
        assert tuple(place.bucket for place in replicas_to_ask(record, topology, {SOURCE: reply})) == expected


def test_only_what_is_open() -> None:
    """A replica that was seen is not asked for."""
    record = derive(evidence_of(user_write(), replica(), topology=TWO_DESTINATIONS))
    places = replicas_to_ask(record, Topology([config(bucket=AUDIT, account="3")]), {SOURCE: said("COMPLETED")})
    assert places == (Place(AUDIT, "3"),)
    assert replicas_to_ask(record, NOBODY, {SOURCE: said("PENDING")}) == ()


# What it proves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "source", "destination", "expected"),
    [
        ([user_write()], said("COMPLETED"), None, COMPLETED),
        ([user_write(), failed()], said("COMPLETED"), None, COMPLETED),
        ([user_write()], said("PENDING"), None, PENDING),
        ([user_write(), failed()], said("PENDING"), None, FAILED),
        ([user_write()], said("FAILED"), Missing(), FAILED),
        ([user_write()], said("FAILED"), DENIED, FAILED),
        ([user_write()], said("FAILED"), said("FAILED"), COMPLETED),  # only later metadata failed, back or forth
        ([user_write(), failed()], said("FAILED"), said("REPLICA"), COMPLETED),
        ([user_write(), failed()], said("FAILED"), Missing(), FAILED),
        ([user_write()], NO_STATUS, Missing(), NOT_ELIGIBLE),
        ([user_write()], NO_STATUS, DENIED, NOT_ELIGIBLE),
        ([user_write()], NO_STATUS, NO_STATUS, COMPLETED),
        ([user_write(), failed()], NO_STATUS, Missing(), FAILED),
        ([user_write()], Missing(), Missing(), GONE),
        ([user_write()], Missing(), DENIED, GONE),
        ([user_write()], Missing(), said("REPLICA"), COMPLETED),
        ([user_write(), failed()], Missing(), Missing(), FAILED),
        ([user_write()], DENIED, said("REPLICA"), COMPLETED),
        ([user_write()], DENIED, Missing(), PENDING),
        ([user_write()], DENIED, DENIED, PENDING),
        ([user_write()], SILENT, SILENT, COMPLETED),
        ([user_write()], SILENT, Missing(), PENDING),
        ([denied_read()], said("COMPLETED"), None, COMPLETED),
        ([denied_read()], said("FAILED"), None, FAILED),
    ],
)
def test_one_destination(told: list[Event], source: Reply, destination: Reply | None, expected: Status) -> None:
    """What source and replica say of a version with one copy, and its status then."""
    replies = {SOURCE: source} | ({} if destination is None else {REPLICA: destination})
    assert after(evidence_of(*told), replies).status is expected


@pytest.mark.parametrize(
    ("source", "destinations", "expected"),
    [
        (said("COMPLETED"), (said("REPLICA"), said("PENDING")), (COMPLETED, COMPLETED)),
        (said("COMPLETED"), (said("REPLICA"), Missing()), (COMPLETED, PENDING)),
        (said("COMPLETED"), (said("REPLICA"), DENIED), (COMPLETED, PENDING)),
        (said("PENDING"), (Missing(), said("REPLICA")), (PENDING, COMPLETED)),
        (said("FAILED"), (Missing(), said("REPLICA")), (FAILED, COMPLETED)),
        (said("FAILED"), (DENIED, said("REPLICA")), (PENDING, COMPLETED)),
        (said("FAILED"), (Missing(), DENIED), (FAILED, PENDING)),
        (NO_STATUS, (Missing(), Missing()), (NOT_ELIGIBLE, NOT_ELIGIBLE)),
        (NO_STATUS, (said("REPLICA"), Missing()), (COMPLETED, PENDING)),
        (Missing(), (said("REPLICA"), Missing()), (COMPLETED, GONE)),
        (SILENT, (SILENT, Missing()), (COMPLETED, PENDING)),
        (DENIED, (DENIED, said("REPLICA")), (PENDING, COMPLETED)),
    ],
)
def test_two_destinations(source: Reply, destinations: tuple[Reply, Reply], expected: tuple[Status, Status]) -> None:
    """With two copies each replica speaks for itself, and the source's one status for none of them alone."""
    replies = {SOURCE: source, AUDIT: destinations[0], REPLICA: destinations[1]}
    record = after(evidence_of(user_write(), topology=TWO_DESTINATIONS), replies)
    assert statuses(record) == {AUDIT: expected[0], REPLICA: expected[1]}


@pytest.mark.parametrize(
    ("topology", "bucket", "replies", "expected"),
    [
        (BY_TAG, REPLICA, {SOURCE: NO_STATUS, REPLICA: Missing()}, NOT_ELIGIBLE),
        (BY_TAG, REPLICA, {SOURCE: said("COMPLETED")}, COMPLETED),
        (BY_TAG, REPLICA, {SOURCE: said("PENDING")}, UNCERTAIN),
        (BY_TAG, REPLICA, {SOURCE: said("FAILED"), REPLICA: Missing()}, FAILED),
        (GOLD_AUDIT, AUDIT, {SOURCE: said("COMPLETED"), AUDIT: Missing()}, NOT_ELIGIBLE),
        (GOLD_AUDIT, AUDIT, {SOURCE: said("COMPLETED"), AUDIT: said("REPLICA")}, COMPLETED),
        (GOLD_AUDIT, AUDIT, {SOURCE: said("COMPLETED"), AUDIT: DENIED}, UNCERTAIN),
        (GOLD_AUDIT, AUDIT, {SOURCE: said("FAILED"), AUDIT: Missing()}, UNCERTAIN),
    ],
)
def test_uncertain(topology: Topology, bucket: str, replies: dict[str, Reply], expected: Status) -> None:
    """Whether a rule took it is settled by the source's status, and for one of several copies by the replica."""
    assert statuses(after(evidence_of(user_write(), topology=topology), replies))[bucket] is expected


@pytest.mark.parametrize("said_of_source", [said("FAILED"), NO_STATUS])
def test_a_known_failure_is_no_news(said_of_source: Reply) -> None:
    """Of a copy that is known as failed, S3's word of it adds nothing."""
    record = derive(evidence_of(user_write(), failed()))
    assert conclude(record, {SOURCE: said_of_source, REPLICA: Missing()}, AT) == ()


def test_a_replica_was_seen_before() -> None:
    """Where a replica was seen, a rule took the version, whatever a missing status says."""
    record = derive(evidence_of(user_write(), replica(), topology=TWO_DESTINATIONS))
    assert conclude(record, {SOURCE: NO_STATUS, AUDIT: Missing()}, AT) == ()


def test_a_destination_that_nobody_named() -> None:
    """A copy of which no message says where it goes cannot be asked for; the source's word settles it."""
    known = evidence_of(denied_read(), topology=NOBODY)
    assert replicas_to_ask(derive(known), NOBODY, {SOURCE: NO_STATUS}) == ()
    assert statuses(after(known, {SOURCE: said("COMPLETED")})) == {None: COMPLETED}


def test_without_statuses() -> None:
    """Stores that know no statuses: a replica that is there is a sighting, and one that is not leaves all as it is."""
    known = evidence_of(user_write())
    assert after(known, {SOURCE: NO_STATUS, REPLICA: NO_STATUS}, always_status=False).status is COMPLETED
    assert after(known, {SOURCE: NO_STATUS, REPLICA: Missing()}, always_status=False).status is PENDING


def test_a_delete_marker() -> None:
    """A marker that is at the destination was replicated; of one that is not, nothing is known."""
    known = evidence_of(user_write(delete_marker=True), topology=Topology([config(rule(delete_markers=True))]))
    assert after(known, {SOURCE: SILENT, REPLICA: SILENT}).status is COMPLETED
    assert after(known, {SOURCE: SILENT, REPLICA: Missing()}).status is PENDING


def test_the_roles_are_the_other_way_round() -> None:
    """Where the presumed source says REPLICA, the copy is there, and the source is the other bucket."""
    record = after(evidence_of(written(), topology=TWO_WAY), {SOURCE: said("REPLICA")})
    assert (record.source_bucket, record.status, statuses(record)) == (REPLICA, COMPLETED, {SOURCE: COMPLETED})


@pytest.mark.parametrize(
    ("replies", "source"),
    [
        ({SOURCE: said("REPLICA"), REPLICA: said("PENDING")}, REPLICA),
        ({SOURCE: DENIED, REPLICA: said("REPLICA")}, SOURCE),
        ({SOURCE: said("COMPLETED"), REPLICA: said("REPLICA")}, SOURCE),
        ({SOURCE: said("COMPLETED"), REPLICA: DENIED}, SOURCE),
    ],
)
def test_doubt_ends(replies: dict[str, Reply], source: str) -> None:
    """Of two buckets of which neither was known as the source, one status is enough."""
    record = after(evidence_of(written(), written(REPLICA), topology=TWO_WAY), replies)
    assert (record.source_bucket, record.status, record.undecided) == (source, COMPLETED, False)


def test_doubt_stays() -> None:
    """Where neither tells, nothing changes."""
    known = evidence_of(written(), written(REPLICA), topology=TWO_WAY)
    assert after(known, {SOURCE: said("PENDING"), REPLICA: Missing()}) == derive(known)


def test_repaired() -> None:
    """A failure that was repaired outside is shown as a copy that is there, by the word of S3, and as repaired."""
    (copy,) = after(evidence_of(user_write(), failed()), {SOURCE: said("COMPLETED")}).copies
    assert (copy.status, copy.evidence, copy.repaired, copy.replicated_at) == (COMPLETED, "head", True, None)
    assert copy.failure_reason == "DstKmsKeyNotFound"


ANY: list[Reply] = [said(each) for each in ("COMPLETED", "FAILED", "PENDING", "REPLICA")]
ANY += [NO_STATUS, SILENT, Missing(), DENIED]
replies = st.sampled_from(ANY)


@given(evidence, st.data())
def test_what_could_not_be_asked_proves_nothing(known: Evidence, data: st.DataObject) -> None:
    """Where nobody answers nothing follows, and what follows is about buckets that were asked."""
    record = derive(known)
    asked = [*sources_to_ask(record, NOBODY), *replicas_to_ask(record, NOBODY, {})]
    assert conclude(record, {place.bucket: DENIED for place in asked}, AT) == ()
    told = {place.bucket: data.draw(replies) for place in asked}
    assert {event.bucket for event in conclude(record, told, AT)} <= told.keys()


@given(evidence, st.data())
def test_answers_settle_or_leave(known: Evidence, data: st.DataObject) -> None:
    """Whatever is replied, no copy that was settled changes, except to deleted where no rule took what is now gone."""
    record = derive(known)
    told = {place.bucket: data.draw(replies) for place in sources_to_ask(record, NOBODY)}
    told |= {place.bucket: data.draw(replies) for place in replicas_to_ask(record, NOBODY, told)}
    merged = known
    for event in conclude(record, told, AT):
        news = interpret(event, NOBODY)
        merged = merged if news is None else merge(merged, news)
    if not any(reply == said("REPLICA") for reply in told.values()) and not record.undecided:
        now = statuses(derive(merged))
        before = {bucket: status for bucket, status in statuses(record).items() if status not in OPEN}
        if isinstance(told.get(record.source_bucket or ""), Missing):
            elsewhere = [bucket for bucket in before if bucket != record.source_bucket]
            before |= {bucket: GONE for bucket in elsewhere if before[bucket] is NOT_ELIGIBLE}
        assert {bucket: now.get(bucket) for bucket in before} == before


def test_meanings() -> None:
    """Figures name what a source says, and whether a destination has it."""
    told: list[Found | Missing] = [said(each) for each in ("COMPLETED", "FAILED", "PENDING", "REPLICA")]
    told += [NO_STATUS, SILENT, Missing()]
    words = ["completed", "failed", "pending", "replica", "not-eligible", "there", "gone"]
    assert [meaning(reply, at_source=True) for reply in told] == words
    assert [meaning(reply, at_source=False) for reply in told] == ["found"] * 6 + ["missing"]
