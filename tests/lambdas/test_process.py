"""The process function: what becomes of each message, whatever its neighbours, the store and the queue do."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")

from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.aws.queue import BATCH, BATCH_BYTES, Message, Queue
from crr_monitor.core.model import Status
from crr_monitor.lambdas.batch import TOLERATED, WORKERS, is_too_large, summary
from crr_monitor.lambdas.process import ProcessFailedError, run
from crr_monitor.stores.base import Query
from tests.lambdas.making import (
    BROKEN,
    KEY,
    MALFORMED,
    SCHEDULE,
    THROTTLED,
    TOO_LARGE,
    FakeContext,
    FakeSqs,
    TroubledStore,
    handed_over,
    log_lines,
    new_version,
    replica,
    runtime,
    source,
    trouble,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crr_monitor.lambdas.process import Runtime


@pytest.fixture
def store() -> TroubledStore:
    """Empty, with one rule."""
    return TroubledStore()


@pytest.fixture
def sqs() -> FakeSqs:
    """Two empty queues."""
    return FakeSqs()


@pytest.fixture
def function(store: TroubledStore, sqs: FakeSqs) -> Iterator[Runtime]:
    """The function's runtime."""
    made = runtime(store, sqs)
    yield made
    made.pool.shutdown()


def statuses(store: TroubledStore) -> dict[str, Status]:
    """All records by version id."""
    return {record.version_id: record.status for record in store.records(Query())}


def pending(*versions: str) -> dict[str, Status]:
    """Written and not yet replicated."""
    return dict.fromkeys(versions, Status.PENDING)


def error(code: str) -> Exception:
    """An error of SQS."""
    sdk: Any = importlib.import_module("botocore.exceptions")
    made: Exception = sdk.ClientError({"Error": {"Code": code, "Message": "told so"}}, "ReceiveMessage")
    return made


class TestScheduled:
    """One run empties the queue."""

    def test_until_empty(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """More messages than one call gives are all stored and deleted in one run."""
        versions = [new_version() for _ in range(35)]
        sqs.put(*map(source, versions), *map(replica, versions))
        run(function, SCHEDULE, FakeContext())
        assert statuses(store) == dict.fromkeys(versions, Status.COMPLETED)
        assert sqs.bodies() == sqs.bodies("dead") == []

    def test_merged(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """Source, replica and duplicates of one version are one update."""
        version = new_version()
        sqs.put(*[source(version), replica(version)] * 3)
        run(function, SCHEDULE, FakeContext())
        assert (store.tried, statuses(store)) == (1, {version: Status.COMPLETED})

    def test_what_comes_later_waits(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """A run ends with what was there when it began, so that steady traffic keeps no run going."""
        early, late, later = new_version(), new_version(), new_version()
        to_come = (time.time_ns() // 1_000_000) + 60_000
        sqs.put(*[source(early)] * 9)
        sqs.put(source(late), *[source(late)] * 9, sent_at=to_come)
        sqs.put(*[source(later)] * 100, sent_at=to_come)
        run(function, SCHEDULE, FakeContext())
        seen = statuses(store)
        assert seen.pop(early) is Status.PENDING
        assert set(seen) <= {late, later}
        assert len(sqs.bodies()) >= 119 - BATCH * (1 + WORKERS)

    def test_empty(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """An empty queue costs one call."""
        run(function, SCHEDULE, FakeContext())
        assert sqs.calls == {"receive_message": 1}
        assert store.tried == 0

    def test_malformed(self, function: Runtime, store: TroubledStore, sqs: FakeSqs, capsys: Any) -> None:  # noqa: ANN401
        """Malformed messages go, each with its reason, to the dead-letter queue, and do their neighbours no harm."""
        first, last = new_version(), new_version()
        sqs.put(source(first), BROKEN, MALFORMED, source(last))
        run(function, SCHEDULE, FakeContext())
        assert statuses(store) == pending(first, last)
        assert (sqs.bodies(), sqs.bodies("dead")) == ([], [BROKEN, MALFORMED])
        logged = [line["reason"] for line in log_lines(capsys.readouterr().out) if line["level"] == "ERROR"]
        assert logged == sqs.reasons()
        assert [reason.split(":")[0] for reason in logged] == ["not JSON", "eventName is no text but int"]

    def test_half_malformed(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """What is good in a message with one malformed record is stored, and the whole message is kept for a look."""
        version = new_version()
        body = f'{{"Records": [{source(version)}, {{"eventSource": "aws:s3", "eventName": 7}}]}}'
        sqs.put(body)
        run(function, SCHEDULE, FakeContext())
        assert (statuses(store), sqs.bodies("dead")) == (pending(version), [body])

    def test_too_large(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """A message whose evidence the store refuses for good goes to the dead-letter queue, and no other."""
        good, refused = new_version(), new_version()
        store.troubles[refused] = TOO_LARGE
        sqs.put(source(refused), source(good))
        run(function, SCHEDULE, FakeContext())
        assert (statuses(store), sqs.bodies()) == (pending(good), [])
        assert sqs.bodies("dead") == [source(refused)]
        assert sqs.reasons() == [f"the store refuses {KEY!r} {refused}: {TOO_LARGE}"]

    def test_hot_key(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """One throttled version keeps its own message in the queue and no other."""
        good, hot = new_version(), new_version()
        store.troubles[hot] = THROTTLED
        sqs.put(source(hot), source(good))
        run(function, SCHEDULE, FakeContext())
        assert (statuses(store), sqs.bodies(), sqs.bodies("dead")) == (pending(good), [source(hot)], [])

    def test_throttled(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """A throttled table is left alone after a few tries; everything stays in the queue, and the run fails."""
        bodies = [source(new_version()) for _ in range(100)]
        store.all_versions = THROTTLED
        sqs.put(*bodies)
        with pytest.raises(ProcessFailedError, match=r"none of 100 messages .* ProvisionedThroughputExceeded"):
            run(function, SCHEDULE, FakeContext())
        assert (sqs.bodies(), sqs.bodies("dead")) == (bodies, [])
        assert TOLERATED <= store.tried <= TOLERATED + 3  # what other workers had begun

    def test_no_topology(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """Where the rules cannot be read, nothing is judged without them: all messages stay."""
        store.unreachable = THROTTLED
        bodies = [source(new_version()), BROKEN]
        sqs.put(*bodies)
        with pytest.raises(ProcessFailedError, match="none of 2 messages"):
            run(function, SCHEDULE, FakeContext())
        assert (sqs.bodies(), sqs.bodies("dead")) == (bodies, [])

    def test_no_time_to_begin(self, function: Runtime, sqs: FakeSqs) -> None:
        """With too little time left nothing is received, so no message's count of receives goes up in vain."""
        sqs.put(source(new_version()))
        run(function, SCHEDULE, FakeContext(20.0))
        assert sqs.calls == {}

    def test_time_runs_out(self, function: Runtime, store: TroubledStore, sqs: FakeSqs, capsys: Any) -> None:  # noqa: ANN401
        """When time runs out while storing, what is stored is deleted and the rest stays."""
        versions = [new_version() for _ in range(50)]
        sqs.put(*map(source, versions))
        run(function, SCHEDULE, FakeContext(lambda: 110.0 if store.tried < 20 else 9.0))
        stored = statuses(store)
        assert 20 <= len(stored) <= 24
        assert sqs.bodies() == [source(version) for version in versions if version not in stored]
        (line,) = log_lines(capsys.readouterr().out)
        assert (line["kept"], line["problem"]) == (50 - len(stored), "no time left")

    def test_not_deleted(self, function: Runtime, store: TroubledStore, sqs: FakeSqs, capsys: Any) -> None:  # noqa: ANN401
        """Messages that SQS fails to delete are tried once more, counted, and harmless when they come again."""
        stubborn, other = new_version(), new_version()
        sqs.put(source(stubborn), source(other))
        sqs.undeletable.add(source(stubborn))
        run(function, SCHEDULE, FakeContext())
        assert sqs.bodies() == [source(stubborn)]
        assert sqs.calls["delete_message_batch"] == 2
        run(runtime(store, sqs), handed_over(source(stubborn)), FakeContext())
        assert statuses(store) == pending(stubborn, other)
        warning, first, second = log_lines(capsys.readouterr().out)
        assert (first["undeleted"], first["changed"], second["changed"]) == (1, 2, 0)
        assert (warning["level"], warning["count"]) == ("WARNING", 1)
        assert warning["reason"]

    def test_deleting_fails(self, function: Runtime, sqs: FakeSqs, capsys: Any) -> None:  # noqa: ANN401
        """Nothing is lost when deleting fails altogether, and the log says why it failed."""
        bodies = [source(new_version()) for _ in range(3)]
        sqs.put(*bodies)
        sqs.errors["delete_message_batch"] = [error("InternalError")]
        run(function, SCHEDULE, FakeContext())
        assert sqs.bodies() == bodies
        warning = next(line for line in log_lines(capsys.readouterr().out) if line["level"] == "WARNING")
        assert (warning["count"], "delete message batch" in warning["reason"]) == (3, True)

    def test_not_buried(self, function: Runtime, sqs: FakeSqs, capsys: Any) -> None:  # noqa: ANN401
        """A malformed message that cannot be sent to the dead-letter queue is not deleted."""
        sqs.put(BROKEN, MALFORMED)
        sqs.unsendable.add(BROKEN)
        run(function, SCHEDULE, FakeContext())
        assert (sqs.bodies(), sqs.bodies("dead")) == ([BROKEN], [MALFORMED])
        assert "InvalidParameterValue: too long" in capsys.readouterr().out

    def test_no_dead_letter_queue(self, function: Runtime, sqs: FakeSqs) -> None:
        """Neither is it when the call fails; where that was all, the run fails."""
        sqs.put(BROKEN)
        sqs.errors["send_message_batch"] = [error("AccessDenied")]
        with pytest.raises(ProcessFailedError, match=r"AccessDenied: told so .allow the action"):
            run(function, SCHEDULE, FakeContext())
        assert sqs.bodies() == [BROKEN]

    def test_receiving_fails(self, function: Runtime, sqs: FakeSqs) -> None:
        """A queue that cannot be read fails the run, with the cure."""
        sqs.errors["receive_message"] = [error("AWS.SimpleQueueService.NonExistentQueue")]
        with pytest.raises(ProcessFailedError, match=r"queue events, receive message: .* deploy the hub's stack again"):
            run(function, SCHEDULE, FakeContext())

    def test_receiving_fails_later(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """What was received before receiving failed is stored and deleted."""
        version = new_version()
        sqs.put(source(version))

        def fail_second() -> float:
            if sqs.calls["receive_message"] == 1:
                sqs.errors["receive_message"] = [error("InternalError")]
            return 110.0

        run(function, SCHEDULE, FakeContext(fail_second))
        assert (statuses(store), sqs.bodies()) == (pending(version), [])

    def test_killed(self, function: Runtime, store: TroubledStore, sqs: FakeSqs, monkeypatch: Any) -> None:  # noqa: ANN401
        """Killed after storing and before deleting, the messages come again and change nothing."""
        version = new_version()
        sqs.put(source(version), BROKEN)

        def killed(_queue: Queue, _messages: object) -> int:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Queue, "delete", killed)
            with pytest.raises(KeyboardInterrupt):
                run(function, SCHEDULE, FakeContext())
        assert (sqs.bodies(), statuses(store)) == ([source(version), BROKEN], pending(version))
        sqs._flying.clear()
        run(function, SCHEDULE, FakeContext())
        assert (sqs.bodies(), sqs.bodies("dead"), statuses(store)) == ([], [BROKEN, BROKEN], pending(version))

    def test_log(self, function: Runtime, sqs: FakeSqs, capsys: Any) -> None:  # noqa: ANN401
        """A run is one line of JSON with its counts."""
        version = new_version()
        sqs.put(source(version), replica(version), '{"Service": "Amazon S3", "Event": "s3:TestEvent"}')
        run(function, SCHEDULE, FakeContext())
        (line,) = log_lines(capsys.readouterr().out)
        assert line == {
            "level": "INFO",
            "message": "processed",
            "mode": "Scheduled",
            "request_id": "request-1",
            "messages": 3,
            "done": 3,
            "dead": 0,
            "kept": 0,
            "undeleted": 0,
            "versions": 1,
            "changed": 1,
            "rounds": 1,
            "empty": True,
            "events": 2,
            "malformed": 0,
            "ignored": {"test event": 1},
        }

    def test_counts(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """The monitor's own figures have what was read."""
        sqs.put(source(new_version()), BROKEN)
        run(function, SCHEDULE, FakeContext())
        counts = store.counts()
        assert (counts.messages, counts.events, counts.malformed) == (2, 1, 1)


class TestContinuous:
    """Lambda hands over a batch, and deletes what is not named in the answer."""

    def test_all_done(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """Nothing is named when all is stored, and the queue is left to Lambda."""
        version = new_version()
        answer = run(function, handed_over(source(version), replica(version)), FakeContext())
        assert (answer, statuses(store)) == ({"batchItemFailures": []}, {version: Status.COMPLETED})
        assert sqs.calls == {}

    def test_malformed(self, function: Runtime, store: TroubledStore, sqs: FakeSqs) -> None:
        """Malformed messages go to the dead-letter queue at once, and Lambda may delete them."""
        version = new_version()
        answer = run(function, handed_over(BROKEN, source(version)), FakeContext())
        assert (answer, statuses(store), sqs.bodies("dead")) == ({"batchItemFailures": []}, pending(version), [BROKEN])

    def test_part_fails(self, function: Runtime, store: TroubledStore) -> None:
        """Only the messages of a version that could not be stored come again."""
        good, hot = new_version(), new_version()
        store.troubles[hot] = THROTTLED
        answer = run(function, handed_over(source(good), source(hot), replica(good), replica(hot)), FakeContext())
        assert answer == {"batchItemFailures": [{"itemIdentifier": "m2"}, {"itemIdentifier": "m4"}]}
        assert statuses(store) == {good: Status.COMPLETED}

    def test_all_fail(self, function: Runtime, store: TroubledStore) -> None:
        """When no message could be stored the function fails, so that its metrics tell and Lambda slows down."""
        store.all_versions = THROTTLED
        with pytest.raises(ProcessFailedError, match="none of 2 messages"):
            run(function, handed_over(source(new_version()), source(new_version())), FakeContext())

    def test_no_time(self, function: Runtime, store: TroubledStore) -> None:
        """Without time nothing is begun, and all messages come again."""
        with pytest.raises(ProcessFailedError, match="no time left"):
            run(function, handed_over(source(new_version())), FakeContext(5.0))
        assert store.tried == 0

    def test_nothing(self, function: Runtime) -> None:
        """An empty batch is no failure."""
        assert run(function, {"Records": []}, FakeContext()) == {"batchItemFailures": []}


class TestParts:
    """Smaller things."""

    @pytest.mark.parametrize(
        ("code", "message", "expected"),
        [
            ("ValidationException", "Item size to update has exceeded the maximum allowed size", True),
            (
                "ValidationException",
                "Aggregated size of all range keys has exceeded the size limit of 1024 bytes",
                True,
            ),
            ("ValidationException", "The provided key element does not match the schema", False),
            ("ProvisionedThroughputExceededException", "The size of your demand exceeds it", False),
        ],
    )
    def test_refusals(self, code: str, message: str, expected: bool) -> None:  # noqa: FBT001
        """Only what is too large is refused for good; any other trouble is tried again."""
        assert is_too_large(trouble(code, message)) is expected

    def test_summary(self) -> None:
        """Many reasons are told in few words, the most frequent first."""
        reasons = [*["a"] * 3, *["b"] * 2, "c", "d", "e"]
        assert summary(reasons) == "a (3 times); b (2 times); c; and 2 more"

    @given(st.lists(st.integers(0, 300_000), max_size=40))
    def test_groups(self, sizes: list[int]) -> None:
        """Whatever their sizes, messages are sent in calls that SQS takes, each once and in order."""
        calls: list[list[str]] = []

        class Client(FakeSqs):
            def send_message_batch(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401
                calls.append([entry["MessageBody"] for entry in request["Entries"]])
                return {}

        messages = [Message(str(number), f"{number}:" + "x" * size) for number, size in enumerate(sizes)]
        assert Queue(Client(), "dead").bury([(message, "why") for message in messages]) == []
        assert [body for call in calls for body in call] == [message.body for message in messages]
        assert all(len(call) <= BATCH for call in calls)
        assert all(len(call) == 1 or sum(map(len, call)) <= BATCH_BYTES for call in calls)

    def test_reason_is_fit_for_sqs(self, sqs: FakeSqs) -> None:
        """A reason with characters that SQS refuses, or of any length, can be sent."""
        Queue(sqs, "dead").bury([(Message("1", "x"), "bad \x00\ud800 " + "y" * 1_000), (Message("2", "y"), "")])
        first, second = sqs.reasons()
        assert (first[:7], len(first), second) == ("bad \ufffd\ufffd ", 500, "unknown")
