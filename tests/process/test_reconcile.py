"""Reconciling with a bucket that answers as a test says: what is stored, what is counted, and where it ends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from crr_monitor.core.model import Status
from crr_monitor.core.notices import UNANSWERED_NOTE, Unanswered, decode_unanswered
from crr_monitor.core.reconcile import Found, Missing, Place, Unasked
from crr_monitor.core.times import HOUR_MS, MINUTE_MS
from crr_monitor.core.topology import Topology
from crr_monitor.process.reconcile import (
    GIVE_UP,
    LOOK_NOTE,
    LOOKS,
    CouldNotAsk,
    Limits,
    Reconciled,
    Reconciler,
    interleaved,
)
from crr_monitor.stores.base import Due, Query, StoreError, look_along
from crr_monitor.stores.memory import MemoryStore
from tests.factories import (
    AT,
    AUDIT,
    KEY,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    batch_of,
    config,
    failed,
    record_of,
    replica,
    rule,
    user_write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crr_monitor.core.events import Event
    from crr_monitor.core.reconcile import Reply
    from crr_monitor.stores.base import Asked, Batch, Look

DENIED = Unasked("denied", "s3:HeadObject: 403", "s3:GetObjectVersion")
ENCRYPTED = Unasked("encrypted", "s3:HeadObject: 400")
OVERDUE = 15 * MINUTE_MS


Told: TypeAlias = "Reply | Mapping[str, Reply]"
"""What a bucket answers: always the same, or by version id."""


class FakeProber:
    """Buckets that answer as they are told: a reply, or one by version id; what is not told is missing."""

    def __init__(self, **buckets: Told) -> None:
        self.buckets = {name.replace("_", "-"): replies for name, replies in buckets.items()}
        self.asked: list[tuple[str, str]] = []
        self.on_ask: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def ask(self, place: Place, key: str, version_id: str) -> Reply:
        """As told."""
        assert key == KEY
        with self._lock:
            self.asked.append((place.bucket, version_id))
            self.on_ask()
        told = self.buckets.get(place.bucket, Missing())
        return told.get(version_id, Missing()) if isinstance(told, Mapping) else told


class Scene:
    """A store in memory, a clock, and the reconciler between them and the buckets."""

    def __init__(self, *told: Event, topology: Topology | None = None, **limits: Any) -> None:  # noqa: ANN401
        self.now = AT + OVERDUE
        self.seconds = 0.0
        self.pauses: list[float] = []
        self.store = MemoryStore(clock=lambda: self.now)
        self.prober = FakeProber()
        self.limits = Limits(**{"workers": 1, "per_second": 1_000.0, **limits})
        if topology is None:
            self.store.apply(batch_of(*told))
        else:
            self.store.apply(batch_of(*told, topology=topology))

    def sleep(self, seconds: float) -> None:
        """Time passes."""
        self.pauses.append(seconds)
        self.seconds += seconds

    def run(self, **buckets: Told) -> Reconciled:
        """One pass over buckets that answer so."""
        on_ask = self.prober.on_ask
        self.prober = FakeProber(**buckets)
        self.prober.on_ask = on_ask
        clocks: dict[str, Any] = {"clock": lambda: self.now, "monotonic": lambda: self.seconds, "sleep": self.sleep}
        return Reconciler(self.store, self.prober, self.limits, **clocks).run()

    def statuses(self) -> dict[str, Status]:
        """Of all that is listed, by version."""
        return {record.version_id: record.status for record in self.store.records(Query())}


def writes(count: int, **fields: Any) -> list[Event]:  # noqa: ANN401
    """Versions that were written one after the other."""
    return [user_write(version_id=f"v{number}", at=AT - 100 + number, **fields) for number in range(count)]


def test_nothing_is_due() -> None:
    """Before the threshold nobody is asked."""
    scene = Scene(user_write())
    scene.now -= 1
    assert scene.run() == Reconciled()
    assert scene.prober.asked == []


def test_each_answer_counts() -> None:
    """Answers become statuses and figures, and only one question is put where that is enough."""
    scene = Scene(*writes(5))
    source = {"v0": Found("COMPLETED"), "v1": Found("PENDING"), "v2": Found("FAILED"), "v3": Found()}
    found = scene.run(orders=source, orders_dr=Missing())
    assert scene.statuses() == {
        "v0": Status.COMPLETED,
        "v1": Status.PENDING,
        "v2": Status.FAILED,
        "v3": Status.NOT_ELIGIBLE,
        "v4": Status.SOURCE_DELETED,
    }
    assert found.answers == {"completed": 1, "pending": 1, "failed": 1, "not-eligible": 1, "gone": 1, "missing": 3}
    assert (found.due, found.asked, found.questions, found.records_changed) == (5, 5, 8, 4)
    assert (found.left, found.more, found.unasked, found.oldest_due_seconds) == (0, False, 0, 0.1)
    assert [bucket for bucket, version in scene.prober.asked if version in {"v0", "v1"}] == [SOURCE, SOURCE]


def test_backing_off() -> None:
    """What stays pending is asked at 15, 30 and 60 minutes, and not between."""
    scene = Scene(user_write())
    asked = []
    for minute in range(15, 121):
        scene.now = AT + minute * MINUTE_MS
        asked += [minute] * scene.run(orders=Found("PENDING")).asked
    assert asked == [15, 30, 60, 120]


def test_failed_is_looked_at_again() -> None:
    """A failure is asked about too, so that a repair from outside is seen."""
    scene = Scene(user_write(), failed())
    assert scene.run(orders=Found("FAILED")).answers == {"failed": 1, "missing": 1}
    scene.now += OVERDUE
    assert scene.run(orders=Found("COMPLETED")).records_changed == 1
    assert list(scene.statuses().values()) == [Status.COMPLETED]
    scene.now += HOUR_MS
    assert scene.run().due == 0


def test_several_destinations() -> None:
    """Each replica of several is asked, and what was found stays found."""
    scene = Scene(user_write(), topology=TWO_DESTINATIONS)
    found = scene.run(orders=Found("FAILED"), orders_dr=Found("REPLICA"))
    assert found.answers == {"failed": 1, "found": 1, "missing": 1}
    (record,) = scene.store.versions(SOURCE, KEY)
    assert {copy.bucket: copy.status for copy in record.copies} == {AUDIT: Status.FAILED, REPLICA: Status.COMPLETED}


def test_places_come_from_the_topology() -> None:
    """Where the messages did not tell account and Region, what was learned does."""
    scene = Scene(user_write())
    scene.store.learn([(config(rule(), account="1", region="r1"), True), (config(bucket=REPLICA, region="r2"), True)])
    places = []

    class Prober:
        def ask(self, place: Place, _key: str, _version_id: str) -> Reply:
            places.append(place)
            return DENIED

    Reconciler(scene.store, Prober(), clock=lambda: scene.now).run()
    assert places == [Place(SOURCE, "1", "r1"), Place(REPLICA, None, "r2")]


def test_could_not_ask() -> None:
    """Who could not be asked is counted with cause and missing permission, and no record changes."""
    scene = Scene(*writes(3), user_write(version_id="seen"))
    before = scene.statuses()
    found = scene.run(orders=DENIED, orders_dr={"seen": Found()})
    assert found.could_not_ask == [CouldNotAsk(None, SOURCE, "denied", "s3:GetObjectVersion", 4, DENIED.text)]
    assert (found.unasked, found.asked, found.answers) == (4, 4, {"missing": 3, "found": 1})
    assert scene.statuses() == {**before, "seen": Status.COMPLETED}


def test_unanswered_questions_come_back_within_the_hour() -> None:
    """However often nobody answered, the next question is at most an hour away."""
    scene = Scene(user_write())
    for _ in range(8):
        assert scene.run(orders=DENIED, orders_dr=DENIED).due == 1
        scene.now += HOUR_MS
    assert scene.run(orders=Found("COMPLETED")).records_changed == 1


def test_a_bucket_that_does_not_answer_is_given_up() -> None:
    """After some refusals in a row a bucket is left alone in this run, and all its records still count as not asked."""
    scene = Scene(*writes(GIVE_UP + 5))
    found = scene.run(orders=DENIED, orders_dr=Missing())
    assert [bucket for bucket, _ in scene.prober.asked].count(SOURCE) == GIVE_UP
    assert (found.unasked, found.due) == (GIVE_UP + 5, GIVE_UP + 5)
    assert scene.run().due == 0


def test_one_answer_in_between() -> None:
    """A bucket that answers now and then, or refuses for single objects only, is asked to the end."""
    scene = Scene(*writes(3 * GIVE_UP), user_write(version_id="last", at=AT))
    told: dict[str, Reply] = {f"v{number}": DENIED for number in range(3 * GIVE_UP)}
    for number in range(0, 3 * GIVE_UP, GIVE_UP - 1):
        told[f"v{number}"] = Found("PENDING")
    scene.run(orders={**told, "last": Found("COMPLETED")}, orders_dr=ENCRYPTED)
    assert len(scene.prober.asked) == 3 * GIVE_UP + 1 + sum(reply is DENIED for reply in told.values())
    assert scene.statuses()["last"] is Status.COMPLETED


def test_no_time_is_left() -> None:
    """When the time is over no question begins; the rest is due as before, and the result says so."""
    scene = Scene(*writes(9), seconds=3.0)

    def pass_time() -> None:
        scene.seconds += 1.0

    scene.prober.on_ask = pass_time
    found = scene.run(orders=Found("COMPLETED"))
    assert (found.due, found.questions, found.left, found.more, found.seconds) == (9, 3, 6, True, 3.0)
    scene.seconds = 0.0
    assert scene.run(orders=Found("COMPLETED")).due == 6


def test_no_more_records_than_allowed() -> None:
    """A run takes so many records, the longest due first, and says that there may be more."""
    scene = Scene(*writes(5), records=3)
    first, second = (scene.run(orders=Found("COMPLETED")) for _ in range(2))
    assert [(each.due, each.more, each.left) for each in (first, second)] == [(3, True, 0), (2, False, 0)]


def test_pace() -> None:
    """Questions to one bucket keep their distance; another bucket need not wait for them."""
    scene = Scene(*writes(3), user_write("other", version_id="x", at=AT - 50), topology=OTHER, per_second=2.0)
    scene.run(orders=Found("COMPLETED"), other=Found("COMPLETED"))
    assert scene.prober.asked == [(SOURCE, "v0"), ("other", "x"), (SOURCE, "v1"), (SOURCE, "v2")]
    assert scene.pauses == [0.5, 0.5]


OTHER = Topology([config(rule()), config(rule(AUDIT), bucket="other")])


def test_in_turns() -> None:
    """Records of all sources take turns, each source's in their order."""
    dues = [
        Due(record_of(user_write(bucket, version_id=f"{bucket}{number}"), topology=OTHER), 0, 0)
        for bucket, count in ((SOURCE, 4), ("other", 2))
        for number in range(count)
    ]
    names = [due.record.version_id for due in interleaved(dues)]
    assert names == ["orders0", "other0", "orders1", "other1", "orders2", "orders3"]


def test_a_bucket_with_very_much_waits_for_itself_only() -> None:
    """Where one bucket alone has more that is overdue than a run asks, others are asked about at once all the same.

    What they leave is the first one's, so that a run is used.
    """
    late = [user_write("other", version_id=f"late{number}", at=AT - 40 + number) for number in range(2)]
    scene = Scene(*writes(60), *late, topology=OTHER, records=20)
    found = scene.run(orders=DENIED, orders_dr=DENIED, other=Found("COMPLETED"))
    assert (found.due, found.more, found.answers) == (20, True, {"completed": 2})
    assert {version for bucket, version in scene.prober.asked if bucket == "other"} == {"late0", "late1"}
    assert len([1 for bucket, _ in scene.prober.asked if bucket == SOURCE]) == GIVE_UP
    assert scene.statuses()["late0"] is Status.COMPLETED
    left = [due.record.version_id for due in scene.store.due(scene.now, OVERDUE, 100)]
    assert left == [f"v{number}" for number in range(18, 60)]


class Reading(MemoryStore):
    """Cannot find by bucket what is due, as a table cannot: it reads past what it leaves, some at a time."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock=clock)
        self.begins: list[int | None] = []

    def look(self, now: int, overdue: int, limit: int, begin: int | None = None) -> Look:
        """In portions."""
        self.begins.append(begin)
        walk = (due for due in self._due(now, overdue) if begin is None or due.due_at >= begin)
        return look_along(walk, limit)


def hiding(records: int) -> tuple[Scene, Reading]:
    """A bucket of which 1,000 versions are overdue and denied, and one of which some are, behind most of them."""
    scene = Scene(records=records)
    scene.store = store = Reading(lambda: scene.now)
    late = [user_write("other", version_id=f"late{number}", at=AT + 850 + number) for number in range(3)]
    events = [user_write(version_id=f"v{number}", at=AT + number) for number in range(1_000)]
    store.apply(batch_of(*events, *late, topology=OTHER))
    scene.now += 1_000
    return scene, store


def test_a_bucket_is_found_behind_more_than_a_run_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run looks on where the one before ended, so that what waits behind very much is asked about some runs later.

    When everything was looked at, the next one begins anew.
    """
    monkeypatch.setattr("crr_monitor.stores.base.LOOKED", 8)
    scene, store = hiding(records=10)
    answers = [scene.run(orders=DENIED, orders_dr=DENIED, other=Found("PENDING")).answers for _ in range(4)]
    assert answers == [{}, {}, {"pending": 3}, {}]
    assert store.begins.count(None) == 2
    assert store.note(LOOK_NOTE) is not None
    assert {each.cut for each in unanswered(scene)} == {True}


def test_a_run_short_of_time_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a fifth of the time is over after a look the run goes on to ask, and the next one looks on from there."""
    monkeypatch.setattr("crr_monitor.stores.base.LOOKED", 8)
    scene, store = hiding(records=10)
    look = store.look

    def slow(*wanted: Any, **options: Any) -> Look:  # noqa: ANN401
        scene.seconds += scene.limits.seconds / LOOKS
        return look(*wanted, **options)

    monkeypatch.setattr(store, "look", slow)
    assert [scene.run(orders=DENIED, orders_dr=DENIED).due for _ in range(2)] == [10, 10]
    assert store.begins == [None, AT + OVERDUE + 80]


def test_nobody_looks_where_a_run_takes_everything() -> None:
    """Where all that is due is taken, no bucket can be hidden."""
    scene, store = hiding(records=1_004)
    scene.run(orders=Found("COMPLETED"), other=Found("COMPLETED"))
    assert (store.begins, store.note(LOOK_NOTE)) == ([], None)
    scene.run(orders=DENIED)
    assert {each.cut for each in unanswered(scene)} == set()


def test_many_buckets_each_get_their_part() -> None:
    """Of more large buckets than ten, each gets as much of a run as the others."""
    names = [f"bucket{number}" for number in range(15)]
    topology = Topology([config(rule(AUDIT), bucket=name) for name in names])
    events = [
        user_write(name, version_id=f"{name}-{number}", at=AT - 500 + 20 * place + number)
        for place, name in enumerate(names)
        for number in range(20)
    ]
    scene = Scene(*events, topology=topology, records=45)
    scene.run(**dict.fromkeys(names, Found("PENDING")))
    assert Counter(bucket for bucket, _ in scene.prober.asked) == dict.fromkeys(names, 3)


def test_many_at_a_time() -> None:
    """With several threads every record is asked about once, and everything is counted."""
    scene = Scene(*writes(500), workers=16, per_second=100_000.0)
    scene.now += 500
    found = scene.run(orders=Found("COMPLETED"))
    assert (found.questions, found.answers, found.records_changed) == (500, {"completed": 500}, 500)
    assert len(set(scene.prober.asked)) == 500


class Stopping(MemoryStore):
    """Ends the run at a call."""

    def __init__(self, at: str) -> None:
        super().__init__(clock=lambda: AT + OVERDUE)
        self.at = at

    def apply(self, batch: Batch) -> int:
        """Perhaps."""
        self._stop("apply")
        return super().apply(batch)

    def asked(self, questions: Sequence[Asked]) -> None:
        """Perhaps."""
        self._stop("asked")
        super().asked(questions)

    def _stop(self, name: str) -> None:
        if self.at == name:
            message = "stopped"
            raise StoreError(message)


@pytest.mark.parametrize("at", ["apply", "asked"])
def test_stopped_between(at: str) -> None:
    """Stopped before answers are stored, or before it is noted that they were asked for, nothing is lost."""
    store = Stopping("")
    store.apply(batch_of(*writes(2)))
    prober = FakeProber(orders={"v0": Found("COMPLETED"), "v1": Found("PENDING")})
    reconciler = Reconciler(store, prober, clock=lambda: AT + OVERDUE)
    store.at = at
    with pytest.raises(StoreError, match="stopped"):
        reconciler.run()
    store.at = ""
    assert reconciler.run().due == (2 if at == "apply" else 1)
    assert {record.version_id: record.status for record in store.records(Query())} == {
        "v0": Status.COMPLETED,
        "v1": Status.PENDING,
    }
    assert reconciler.run().due == 0


def unanswered(scene: Scene) -> list[Unanswered]:
    """What the note says."""
    found = decode_unanswered(scene.store.note(UNANSWERED_NOTE))
    assert found is not None
    return found


def test_the_note_of_what_is_not_answered() -> None:
    """Metrics and notices find in a note which buckets do not answer, and which only ask to slow down."""
    scene = Scene(*writes(2))
    assert scene.store.note(UNANSWERED_NOTE) is None
    scene.run(orders=DENIED, orders_dr=Unasked("throttled", "503"))
    at = scene.now
    assert unanswered(scene) == [
        Unanswered(SOURCE, DENIED.text, 2, throttled=False, at=at),
        Unanswered(REPLICA, "503", 2, throttled=True, at=at),
    ]


UNREACHABLE = Unasked("unreachable", "no connection")


@pytest.mark.parametrize(
    ("source", "replica", "told"),
    [
        (Found("PENDING"), UNREACHABLE, []),
        (Found("PENDING"), DENIED, [(REPLICA, "denied"), (AUDIT, "denied")]),
        (Found("COMPLETED"), UNREACHABLE, [(REPLICA, "unreachable"), (AUDIT, "unreachable")]),
        (UNREACHABLE, UNREACHABLE, [(SOURCE, "unreachable"), (REPLICA, "unreachable"), (AUDIT, "unreachable")]),
    ],
)
def test_a_region_out_of_reach(source: Told, replica: Told, told: list[tuple[str, str]]) -> None:
    """Where S3 says that a version is pending, that its destination cannot be reached is no trouble of its own."""
    scene = Scene(user_write(), topology=TWO_DESTINATIONS)
    found = scene.run(orders=source, orders_dr=replica, orders_audit=replica)
    assert sorted((each.bucket, each.cause) for each in found.could_not_ask) == sorted(told)
    assert {each.bucket for each in decode_unanswered(scene.store.note(UNANSWERED_NOTE)) or ()} == {
        bucket for bucket, _ in told
    }


def test_single_objects_are_noted_as_that() -> None:
    """Of a version whose key is its owner's the note says that the bucket answers about others."""
    scene = Scene(user_write())
    scene.run(orders=Unasked("encrypted", "SSE-C"))
    assert [(each.bucket, each.single) for each in unanswered(scene)] == [(SOURCE, True)]


def test_the_note_is_written_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that finds nothing new writes nothing."""
    scene = Scene(user_write())
    names: list[str] = []
    keep = scene.store.keep_note

    def keep_note(name: str, body: bytes | None) -> None:
        names.append(name)
        keep(name, body)

    monkeypatch.setattr(scene.store, "keep_note", keep_note)
    for _ in range(3):
        scene.run(orders=DENIED, orders_dr=Missing())
    assert names == [UNANSWERED_NOTE]


def test_a_bucket_stays_unanswered_until_it_answers() -> None:
    """A round in which a bucket is not asked does not clear it; its answer does."""
    scene = Scene(user_write())
    scene.run(orders=DENIED, orders_dr=DENIED)
    before = unanswered(scene)
    scene.now += MINUTE_MS
    assert (scene.run().due, unanswered(scene)) == (0, before)
    scene.now += OVERDUE
    scene.run(orders=Found("PENDING"))
    assert unanswered(scene) == [each for each in before if each.bucket == REPLICA]


def test_a_bucket_of_which_nothing_waits_is_forgotten() -> None:
    """When an event settles what could not be asked, the bucket is forgotten after two hours."""
    scene = Scene(user_write())
    scene.run(orders=DENIED, orders_dr=Missing())
    scene.store.apply(batch_of(replica()))
    scene.now += 2 * HOUR_MS - 1
    scene.run()
    assert len(unanswered(scene)) == 1
    scene.now += 1
    scene.run()
    assert unanswered(scene) == []


def test_as_json() -> None:
    """The figures as logs and commands print them, without what is unknown."""
    found = Reconciled(due=1, seconds=1.23456, could_not_ask=[CouldNotAsk(None, SOURCE, "throttled", None, 2, "later")])
    told = found.to_json()
    assert told["could_not_ask"] == [{"bucket": SOURCE, "cause": "throttled", "count": 2, "text": "later"}]
    assert (told["seconds"], told["due"], told["answers"]) == (1.235, 1, {})
