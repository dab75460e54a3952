"""The archive in a deployed hub: Athena and DuckDB say of every copy what the traffic's truth and the status table say.

On the way events come twice, Firehose refuses records, counting fails after archiving, copies fail and are repaired,
and some never arrive and are given up.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace

from crr_monitor.core.model import Status
from crr_monitor.core.times import HOUR_MS, SECOND_MS, parse_time
from crr_monitor.history import ask, athena
from crr_monitor.history.driver import connected
from crr_monitor.history.queries import QUERIES
from crr_monitor.history.schema import NAMES
from crr_monitor.sandbox import Latency, Sandbox, Settings
from crr_monitor.sinks.coverage import NOTE, Remembered
from tests.cli.running import asked, call
from tests.e2e.system import BUCKETS, HOME, HUB, WAIT_SECONDS, System, document, statement
from tests.e2e.traffic import Truth, Version, Writer, name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from crr_monitor.core.model import Copy, Record

SOON = Latency(0.01)
ARCHIVE = "history"
SINCE = ("--since", "2026-01-01T00:00:00Z")
COPY = "source_bucket, key, version_id, destination_bucket"


class Archived:
    """A system whose archive holds the end of a story, and what the status table said before its last chapter."""

    def __init__(self, sandbox: Sandbox, versions: int) -> None:
        sandbox.client("s3", HUB, HOME).create_bucket(Bucket=ARCHIVE)
        self.sandbox = sandbox
        self.system = System(sandbox, "CloudTrail", ArchiveToS3="Yes", ArchiveBucket=ARCHIVE)
        self.truth = Truth(Status.FAILED)
        self.place = self.system.hub.outputs["ArchivePlace"]
        self.endpoint = ("--endpoint-url", sandbox.endpoint, "--region", HOME)
        self._trouble()
        lost = self._write(versions)
        self._repair()
        self.records = [*self._records()]
        self._give_up(lost)

    def _trouble(self) -> None:
        self.sandbox.fault("duplicate", probability=0.3)
        self.sandbox.fault("refuse", probability=0.3)
        counting = {"service": "dynamodb", "operation": "TransactWriteItems"}
        self.sandbox.fault("error", match=counting, times=3, code="AccessDeniedException")

    def _write(self, versions: int) -> list[Version]:
        """So many versions, a tenth of which never gets to one of its destinations; gives those."""
        writer = Writer(self.system, self.truth)
        part = versions // 10
        self.outage = self.sandbox.outage(bucket="theirs-dr")
        with ThreadPoolExecutor(4) as pool:

            def many(count: int, work: Callable[[int], Version]) -> list[Version]:
                return list(pool.map(work, range(count)))

            lost = many(part, lambda number: writer.put("theirs", f"x/lost-{name(number)}"))
            doomed = many(part, lambda number: writer.put("theirs", f"x/doomed-{name(number)}"))
            kept = many(3 * part, lambda number: writer.put("orders", f"data/{name(number)}"))
            many(part, lambda number: writer.put("orders", f"data/audit/{name(number)}"))
            many(part, lambda number: writer.put("orders", f"data/broken/{name(number)}"))
            many(part, lambda number: writer.put("theirs", name(number)))
            many(part, lambda number: writer.put("orders", f"tmp/{name(number)}"))
            self.sandbox.settle()
            many(part, lambda number: writer.mark("orders", kept[number].key))
            list(pool.map(writer.remove, doomed))
        for version in doomed:
            version.copies["theirs-dr"] = Status.SOURCE_DELETED
        for version in lost:
            version.copies["theirs-dr"] = Status.PENDING
        self.system.drain()
        return lost

    def _repair(self) -> None:
        """Let replication into the bucket that refused it, and replicate again what had failed."""
        actions = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
        policy = document(statement("Allow", HUB, actions, "locked/*"))
        self.system.s3(*BUCKETS["locked"]).put_bucket_policy(Bucket="locked", Policy=policy)
        broken = [version for version in self.truth.versions if "locked" in version.copies]
        assert self.sandbox.retry("orders") == len(broken) > 0
        for version in broken:
            version.copies["locked"] = Status.COMPLETED
        self.system.drain()

    def _records(self) -> Iterator[Record]:
        """The status table's record of every version."""
        store = self.system.store()
        for version in self.truth.versions:
            yield from store.versions(version.bucket, version.key, version.version_id)

    def _give_up(self, lost: list[Version]) -> None:
        """Two weeks pass for the versions that wait."""
        table = self.sandbox.client("dynamodb", HUB, HOME)
        for version in lost:
            table.update_item(
                TableName=self.system.hub.outputs["StatusTableName"],
                Key={"object_key": {"S": version.key}, "version_id": {"S": version.version_id}},
                UpdateExpression="SET expires_at = :past",
                ExpressionAttributeValues={":past": {"N": "1"}},
            )
        assert self.sandbox.expire() == len(lost)
        self.system.drain()
        self.sandbox.end_fault()

    # Asking -----------------------------------------------------------------------------------------------------------

    def query(self, *arguments: str) -> list[dict[str, Any]]:
        """What the command answers."""
        found: list[dict[str, Any]] = json.loads(asked("s", "query", *arguments, *self.endpoint, "-o", "json"))
        return found

    def both(self, *arguments: str) -> list[dict[str, Any]]:
        """What Athena and DuckDB both answer."""
        there = self.query(*arguments, "--athena")
        assert there == self.query(*arguments, "--archive", self.place)
        return there


@pytest.fixture(
    scope="module",
    params=[pytest.param(200, id="200"), pytest.param(2_000, marks=pytest.mark.slow, id="2000")],
)
def archived(request: pytest.FixtureRequest) -> Iterator[Archived]:
    """The system with IAM enforced, and its archive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", HUB)
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        settings = Settings(seed=1, auth=True, replication=SOON, notification=SOON, event=SOON, trail=SOON)
        with Sandbox(settings) as sandbox:
            yield Archived(sandbox, request.param)


def copies(truth: Truth) -> Iterator[tuple[Any, ...]]:
    """What the archive has to say of each copy."""
    for version in truth.versions:
        for bucket, status in version.copies.items():
            state = "expired" if status is Status.PENDING else "settled"
            kind = "delete_marker" if version.marker else "put"
            yield (
                version.bucket,
                version.key,
                version.version_id,
                bucket,
                kind,
                status.name,
                state,
                bucket == "locked",
            )


def test_every_copy_has_its_last_word(archived: Archived) -> None:
    """Both engines give each copy of the truth once, with its end: arrived, repaired, deleted, or given up."""
    sql = f"SELECT {COPY}, operation, status, state, repaired FROM copies ORDER BY {COPY}"  # noqa: S608 - ours
    found = archived.both(sql)
    assert Counter(tuple(row.values()) for row in found) == Counter(copies(archived.truth))
    ends = Counter((row["status"], row["state"]) for row in found)
    assert ends.keys() == {("COMPLETED", "settled"), ("SOURCE_DELETED", "settled"), ("PENDING", "expired")}


def test_rows_are_doubled_and_count_once(archived: Archived) -> None:
    """The archive has rows that came twice, with the same idempotency key; the view has none of them."""
    (row,) = archived.both("SELECT count(*) AS n, count(DISTINCT row_id) AS keys FROM archive")
    (once,) = archived.both("SELECT count(*) AS n, count(DISTINCT copy_id) AS copies FROM copies")
    assert row["n"] > row["keys"] > once["n"]
    assert once["n"] == once["copies"] == len([*copies(archived.truth)])
    struck = archived.sandbox.state()["struck"]
    assert struck["error"] == 3
    assert min(struck["duplicate"], struck["refuse"]) > 0


def said(record: Record, copy: Copy) -> tuple[Any, ...]:
    """What the status table says of a copy."""
    lag = None if copy.lag_ms is None else copy.lag_ms / 1_000
    return (copy.status.name, copy.replicated_at, lag, copy.failed_at, copy.failure_reason, copy.rule_id, record.size)


def test_rows_say_what_the_status_table_said(archived: Archived) -> None:
    """Status, times, lag, reason, rule and size of each copy that settled are those of its record."""
    wanted = {
        (record.source_bucket, record.key, record.version_id, copy.bucket): said(record, copy)
        for record in archived.records
        for copy in record.visible_copies
        if copy.status is not Status.PENDING
    }
    values = (
        "status, epoch_ms(replicated_at) AS r, lag_seconds, epoch_ms(failed_at) AS f, failure_reason, rule_id, size"
    )
    sql = f"SELECT {COPY}, {values} FROM copies WHERE state = 'settled'"  # noqa: S608 - ours
    found = archived.query(sql, "--archive", archived.place)
    told = {tuple(row.values())[:4]: tuple(row.values())[4:] for row in found}
    assert told == wanted


def test_all_columns_are_the_same_in_both(archived: Archived) -> None:
    """Every column of every copy, and every row of the table, is the same value in Athena and in DuckDB."""
    for relation in ("copies", "archive"):
        rows = archived.both(f"SELECT {', '.join(NAMES)} FROM {relation} ORDER BY row_id, recorded_at")  # noqa: S608 - ours
        assert rows


def test_answers_of_athena_as_parquet(archived: Archived, tmp_path: Path) -> None:
    """With ``-o parquet`` Athena's answer is a file that DuckDB reads, with the values that the other forms have."""
    sql = "SELECT key, lag_seconds, replicated_at FROM copies ORDER BY row_id"
    result = call("s", "query", "--athena", sql, *archived.endpoint, "-o", "parquet")
    (tmp_path / "answer.parquet").write_bytes(result.stdout_bytes)
    with connected(tmp_path) as database:
        rows = list(ask.ask(database, f"SELECT * FROM '{tmp_path}/answer.parquet'").rows)  # noqa: S608 - ours
    assert rows == [tuple(row.values()) for row in archived.query(sql, "--athena")]


def test_report_counts_the_same(archived: Archived) -> None:
    """The month's report over the archive in S3 counts every copy of an object, and calls late what was."""
    month = time.strftime("%Y-%m", time.gmtime())
    text = asked("s", "report", "--archive", archived.place, "--month", month, *archived.endpoint, "-o", "json")
    puts = [each for each in copies(archived.truth) if each[4] == "put"]
    assert sum(pair["copies"] for pair in json.loads(text)["pairs"]) == len(puts)


def test_statistics_agree(archived: Archived) -> None:
    """Per pair the archive counts as many copies as the statistics: arrived, deleted, and given up."""
    found = archived.both(
        "SELECT source_bucket, destination_bucket, sum(CASE WHEN status = 'COMPLETED' THEN 1 ELSE 0 END) AS completed,"
        " sum(CASE WHEN status = 'SOURCE_DELETED' THEN 1 ELSE 0 END) AS source_deleted,"
        " sum(CASE WHEN state = 'expired' THEN 1 ELSE 0 END) AS expired FROM copies"
        " GROUP BY source_bucket, destination_bucket ORDER BY source_bucket, destination_bucket"
    )
    counted: dict[tuple[str, str], Counter[str]] = {}
    for key, cell in archived.system.store().cells(None, None):
        pair = counted.setdefault((key.source, key.destination), Counter())
        pair.update(completed=cell.completed, source_deleted=cell.source_deleted, expired=cell.expired)
    assert {tuple(row.values())[:2]: Counter(dict([*row.items()][2:])) for row in found} == counted


@pytest.mark.parametrize("query", QUERIES)
def test_named_queries(archived: Archived, query: str) -> None:
    """A shipped query gives the same in Athena, in DuckDB, and as it is saved in the work group."""
    rows = archived.both("--name", query, *SINCE)
    assert rows
    client = archived.sandbox.client("athena", HUB, HOME)
    group = archived.system.hub.outputs["ArchiveWorkGroupName"]
    saved = [
        client.get_named_query(NamedQueryId=each)["NamedQuery"]
        for each in client.list_named_queries(WorkGroup=group)["NamedQueryIds"]
    ]
    (text,) = [each["QueryString"] for each in saved if (each["Name"], each["WorkGroup"]) == (query, group)]
    answer = athena.ask(client, text, group, archived.system.hub.outputs["ArchiveDatabaseName"])
    assert [dict(zip(answer.columns, row, strict=True)) for row in answer.rows] == rows


def look(archived: Archived) -> None:
    """One tick of the watch function's schedule."""
    assert archived.sandbox.run_rule(HUB, HOME, archived.system.physical_id("WatchSchedule")) == 1
    archived.sandbox.settle(WAIT_SECONDS, functions=True)


def test_who_watched(archived: Archived) -> None:
    """The report shows the hours in which the watch function looked, and those as blind in which it did not."""
    look(archived)
    token = archived.system.hub.outputs["HubToken"]
    found = archived.query("SELECT monitor, source, kind, state FROM coverage", "--archive", archived.place)
    queue = archived.system.hub.outputs["QueueUrl"].rpartition("/")[2]
    assert {tuple(each.values()) for each in found} == {(token, queue, "live", "watched")}
    # A day that could not be written is remembered: here the last of the month before, and then nobody looked.
    day = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    since = int(day.timestamp() * SECOND_MS)
    store = archived.system.store()
    note = msgspec.json.decode(store.note(NOTE) or b"", type=Remembered)
    old = replace(note.stretches[0], since=since, until=since + 5 * HOUR_MS)
    store.keep_note(NOTE, msgspec.json.encode(replace(note, stretches=[old, *note.stretches])))
    look(archived)
    month = ("--month", f"{day:%Y-%m}", "--lateness", "62")
    text = asked("s", "report", "--archive", archived.place, *month, *archived.endpoint, "-o", "json")
    (told,) = json.loads(text)["coverage"]
    assert (told["watched_hours"], told["blind_hours"]) == (5, 19)
    (blind,) = [each for each in told["periods"] if each["kind"] == "blind"]
    assert parse_time(blind["since"])[0] == old.until


@pytest.mark.slow
def test_nothing_is_left_behind(archived: Archived) -> None:
    """After both stacks are deleted stream, database and work group are gone, and the archive is still there."""
    archived.sandbox.end_fault()
    archived.system.destroy()
    assert list(archived.system.left()) == []
    files = archived.system.s3(HUB, HOME).list_objects_v2(Bucket=ARCHIVE, Prefix="crr-monitor/archive/")
    assert files["KeyCount"] > 0
