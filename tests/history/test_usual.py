"""The short way for usual records and the decoder's way end in the same archive, whatever is in the logs."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.core.topology import BucketConfig, Rule, Topology
from crr_monitor.core.topology_document import parse_topology
from crr_monitor.history import backfill, reading, stages
from crr_monitor.history.backfill import make_plan, run
from crr_monitor.history.s3 import Reach
from crr_monitor.history.usual import MAX_PREFIXES, classes_of, records_of
from crr_monitor.process.gather import Gatherer
from crr_monitor.simulate import Plan
from crr_monitor.simulate import run as simulate
from crr_monitor.sources.objects import Found
from crr_monitor.sources.rejects import read_rejects
from tests.history.making import asked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Answer = tuple[list[dict[str, Any]], int, int, dict[str, int], int, list[tuple[str, bytes]]]


def answer(logs: Sequence[Path], rules: Topology, folder: Path, *, short: bool) -> Answer:
    """All that a backfill of the logs leaves: rows, counts and rejects; by the short way, or by the decoder's alone."""
    found = [Found(str(log), log.stat().st_size, "") for log in logs]
    rejects = folder / f"rejects-{short}.ndjson"
    with pytest.MonkeyPatch.context() as patch:
        if not short:
            patch.setattr(stages, "classes_of", lambda _rules: None)
        archive = folder / f"archive-{short}"
        done = run(make_plan(found, rules, str(archive), Reach()), folder / "work", rejects, 1)
    rows = asked(archive, "SELECT * FROM archive ORDER BY ALL") if done.rows else []
    kept = [(reject.error, bytes(reject.message)) for reject in read_rejects(rejects)] if rejects.exists() else []
    counts = done.counts
    return rows, counts.messages, counts.events, counts.ignored, counts.malformed, sorted(kept)


def assert_same(logs: Sequence[Path], rules: Topology, folder: Path) -> Answer:
    """Both ways leave the same; gives it."""
    one, other = (answer(logs, rules, folder, short=short) for short in (True, False))
    assert one == other
    return one


def simulated(plan: Plan, folder: Path) -> tuple[list[Path], Topology]:
    """The logs of a plan, and its rules."""
    simulate(plan, folder / "stream")
    rules = Topology().learn(parse_topology(json.loads((folder / "stream" / "topology.json").read_text())), 0)
    return sorted((folder / "stream" / "AWSLogs").rglob("*.json.gz")), rules


def cloudtrail(**options: Any) -> Plan:  # noqa: ANN401 - a plan's
    """A plan of CloudTrail logs."""
    return Plan(kinds=("cloudtrail",), layout="logs", gz=True, messages_per_file=100, **options)


@pytest.mark.parametrize(
    "plan",
    [
        cloudtrail(seed=1, objects=600),
        cloudtrail(seed=2, objects=600, loss_rate=0.1, malformed_rate=0.05, ignored_rate=0.1),
        cloudtrail(seed=3, objects=600, duplicate_rate=0.9, reorder_ms=24 * 3_600_000),
        cloudtrail(seed=4, objects=600, pairs=9, failure_rate=0.3, delete_rate=0.3, pending_rate=0.2),
        cloudtrail(seed=5, objects=600, audit_share=1.0, delete_marker_rate=0.5, loss_rate=0.2),
        cloudtrail(seed=6, objects=300, lag_p50_ms=3_600_000, lag_p99_ms=20 * 86_400_000),
    ],
    ids=["plain", "losses", "chaos", "trouble", "two destinations", "weeks late"],
)
@pytest.mark.parametrize("pieces", ["whole", "small"])
def test_both_ways_leave_the_same(plan: Plan, pieces: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows with all their columns, counts and rejects are equal, also where versions are spread over many pieces."""
    if pieces == "small":
        monkeypatch.setattr(backfill, "CHUNK_BYTES", 30_000)
        monkeypatch.setattr(reading, "PART_LINES", 100)
        monkeypatch.setattr(backfill, "PARTITION_BYTES", 20_000)
        monkeypatch.setattr(stages, "SETTLE_BYTES", 10_000)
    rows, *_ = assert_same(*simulated(plan, tmp_path), tmp_path)
    assert len(rows) > plan.objects / 2


ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 12.5, 1e300, 111122223333, "", "null", "true", "0", "123", "1e5", "-1", "12.0",
    "{}", "[]", '["a"]', '{"a":1}', "a\\b", 'say "hi"', "\u00e9\U0001f680", "a\u0000b", "a\nb", "s3.amazonaws.com",
    "AROA:s3-replication", "orders", "orders-dr", "media", "aws:kms", "KMS", "GLACIER", "DEEP_ARCHIVE", "STANDARD",
    "PutObject", "DeleteObject", "DeleteObjects", "AccessDenied", "AwsServiceEvent", "2026-11-01T00:00:60Z",
    "2026-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2026-11-01T01:02:03.456Z",
    "2026-11-01T01:02:03+01:00", "2026-11-01 01:02:03Z", "0026-11-01T01:02:03Z", "arn:aws:s3:::orders", "x" * 1025,
    "\u00e9" * 600, ".crr-monitor/canary/x", "audit/x", [], [1], ["a"], {}, {"a": 1}, [{"type": "AWS::S3::Bucket"}],
)  # fmt: skip
"""What stands where something else is expected."""

FIELDS = (
    ("userIdentity",), ("userIdentity", "principalId"), ("userIdentity", "invokedBy"), ("eventTime",), ("eventSource",),
    ("eventName",), ("awsRegion",), ("sourceIPAddress",), ("errorCode",), ("errorMessage",), ("eventType",),
    ("requestParameters",), ("requestParameters", "bucketName"), ("requestParameters", "key"),
    ("requestParameters", "versionId"), ("requestParameters", "x-amz-version-id"),
    ("requestParameters", "x-amz-tagging"), ("requestParameters", "x-amz-storage-class"),
    ("requestParameters", "x-amz-server-side-encryption"), ("responseElements",),
    ("responseElements", "x-amz-server-side-encryption"), ("responseElements", "x-amz-version-id"),
    ("responseElements", "x-amz-delete-marker"), ("additionalEventData",), ("additionalEventData", "objectSize"),
    ("additionalEventData", "bytesTransferredIn"), ("additionalEventData", "SSEApplied"), ("resources",),
    ("resources", 0), ("resources", 1), ("resources", 0, "type"), ("resources", 0, "ARN"), ("resources", 1, "ARN"),
    ("resources", 0, "accountId"), ("resources", 1, "accountId"), ("Records",), ("s3",), ("detail",), ("Message",),
)  # fmt: skip
MISSING = object()


def changed(record: dict[str, Any], path: tuple[Any, ...], value: object) -> None:
    """Put something else into a record, where it has such a place."""
    place: Any = record
    for step in path[:-1]:
        there = (isinstance(place, dict) and step in place) or (isinstance(place, list) and step in range(len(place)))
        place = place[step] if there else None
    last = path[-1]
    if isinstance(place, dict) and isinstance(last, str):
        place.pop(last, None)
        if value is not MISSING:
            place[last] = value
    elif isinstance(place, list) and last in range(len(place)):
        place[last] = None if value is MISSING else value


def write_log(path: Path, documents: Sequence[bytes]) -> Path:
    """A log file of some documents."""
    path.write_bytes(gzip.compress(b"".join(documents)))
    return path


def loaded(logs: Sequence[Path]) -> list[dict[str, Any]]:
    """All records of some logs."""
    return [record for log in logs for record in json.loads(gzip.decompress(log.read_bytes()))["Records"]]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Topology]:
    """Some records, and their rules, one of which needs tags."""
    logs, rules = simulated(
        cloudtrail(seed=9, objects=150, duplicate_rate=0.3, audit_share=0.6), tmp_path_factory.mktemp("s")
    )
    return loaded(logs), rules


@pytest.mark.parametrize("share", [0.02, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_odd_values_make_no_difference(
    seed: int, share: float, stream: tuple[list[dict[str, Any]], Topology], tmp_path: Path
) -> None:
    """Whatever stands in whichever field that is read, and wherever fields are missing: both ways leave the same."""
    records, rules = stream
    dice = random.Random(seed)
    some = json.loads(json.dumps(records))
    for record in some:
        while dice.random() < share:
            changed(record, dice.choice(FIELDS), dice.choice((*ODD, MISSING, MISSING)))
    logs = []
    for begin in range(0, len(some), 60):
        part = {"Records": some[begin : begin + 60]}
        text = json.dumps(part, ensure_ascii=dice.random() < 0.5, separators=(",", ":"))
        logs.append(write_log(tmp_path / f"{begin}.json.gz", [text.encode()]))
    assert_same(logs, rules, tmp_path)


def _whole(records: list[bytes]) -> bytes:
    return b'{"Records":[' + b",".join(records) + b"]}"


DAMAGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "none": lambda records: [_whole(records)],
    "comma at the end": lambda records: [_whole(records)[:-2] + b",]}"],
    "not a number": lambda records: [_whole([*records, b'{"a":NaN}'])],
    "infinite": lambda records: [_whole([*records, b'{"a":-Infinity}'])],
    "field twice": lambda records: [_whole([record[:-1] + b',"eventName":"GetObject"}' for record in records])],
    "field in capitals": lambda records: [
        _whole([record.replace(b'"eventName"', b'"EVENTNAME"') for record in records])
    ],
    "both spellings": lambda records: [_whole([record[:-1] + b',"EventName":"GetObject"}' for record in records])],
    "records twice": lambda records: [_whole(records)[:-1] + b',"Records":[]}'],
    "more beside": lambda records: [_whole(records)[:-1] + b',"s3":{}}'],
    "harmless beside": lambda records: [b'{"a":1,' + _whole(records)[1:]],
    "null record": lambda records: [_whole([*records, b"null", b"1", b'"a"', b"[]"])],
    "log in a log": lambda records: [_whole([*records[1:], _whole(records[:1])])],
    "bad utf-8 in a key": lambda records: [_whole(records).replace(b'"key":"', b'"key":"\xff', 3)],
    "bad utf-8 elsewhere": lambda records: [_whole(records).replace(b'"userAgent":"', b'"userAgent":"\xff', 3)],
    "half a surrogate": lambda records: [_whole(records).replace(b'"userAgent":"', b'"userAgent":"\\ud800', 3)],
    "half a surrogate in a key": lambda records: [_whole(records).replace(b'"key":"', b'"key":"\\ud800', 3)],
    "control character": lambda records: [_whole(records).replace(b'"userAgent":"', b'"userAgent":"\x01', 3)],
    "escapes": lambda records: [_whole(records).replace(b'"key":"', b'"key":"\\u0041\\/\\u00e9\\ud83d\\ude80', 9)],
    "nothing": lambda _records: [b'{"Records":[]}'],
    "two documents": lambda records: [_whole(records[:2]), _whole(records[2:])],
    "two lines": lambda records: [_whole(records[:2]), b"\n", _whole(records[2:])],
    "cut off": lambda records: [_whole(records)[:-40]],
    "garbage behind": lambda records: [_whole(records), b"x"],
    "space around": lambda records: [b'{ "Records" : [ ' + b" , ".join(records) + b" ] } "],
    "mark before": lambda records: [b"\xef\xbb\xbf", _whole(records)],
    "deep": lambda records: [_whole([*records, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"])],
    "too deep": lambda records: [_whole([*records, b'{"a":' + b"[" * 90_000 + b"]" * 90_000 + b"}"])],
    "large number": lambda records: [
        _whole([record.replace(b'"objectSize":', b'"objectSize":1') for record in records])
    ],
    "huge number": lambda records: [_whole([*records, b'{"a":1' + b"0" * 400 + b',"eventTime":1e999}'])],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_documents_make_no_difference(
    damage: str, stream: tuple[list[dict[str, Any]], Topology], tmp_path: Path
) -> None:
    """What is no proper log is read, counted and rejected as ever, beside logs that are as they should be."""
    records, rules = stream
    text = [json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() for record in records]
    logs = [
        write_log(tmp_path / "1.json.gz", [_whole(text[:50])]),
        write_log(tmp_path / "2.json.gz", DAMAGES[damage](text[50:90])),
        write_log(tmp_path / "3.json.gz", [_whole(text[90:])]),
    ]
    assert_same(logs, rules, tmp_path)


def rule(rule_id: str | None, destination: str, **options: Any) -> Rule:  # noqa: ANN401 - a rule's
    """A rule that replicates delete markers."""
    return Rule(rule_id, destination, delete_markers=options.pop("delete_markers", True), **options)


MIDDAY = 1_793_534_400_000 - 43_200_000
TOPOLOGIES = {
    "no rules": Topology(),
    "other buckets": Topology([BucketConfig("elsewhere", rules=(rule("a", "there"),))]),
    "tags": Topology(
        [BucketConfig("orders", rules=(rule("a", "orders-dr", tags=(("a", "b"),)), rule("b", "orders-audit")))]
    ),
    "prefixes": Topology(
        [
            BucketConfig(
                "orders",
                rules=(
                    rule("a", "orders-dr", prefix="a"),
                    rule("b", "orders-dr", priority=2, prefix="audit/"),
                    rule("c", "orders-audit"),
                ),
            )
        ]
    ),
    "since midday": Topology([BucketConfig("orders", rules=(rule("a", "orders-dr"),), since=MIDDAY)]),
    "changed at midday": Topology(
        [
            BucketConfig("orders", rules=(rule("a", "orders-dr"),)),
            BucketConfig("orders", rules=(rule("b", "orders-audit"),), since=MIDDAY),
        ]
    ),
    "without ids": Topology([BucketConfig("orders", rules=(rule(None, "orders-dr"), rule("b", "orders-audit")))]),
    "no markers": Topology([BucketConfig("orders", rules=(rule("a", "orders-dr", delete_markers=False),))]),
    "disabled": Topology([BucketConfig("orders", rules=(rule("a", "orders-dr", enabled=False),))]),
    "to itself": Topology([BucketConfig("orders", rules=(rule("a", "orders"), rule("b", "orders-dr")))]),
    "both ways": Topology(
        [
            BucketConfig("orders", rules=(rule("a", "orders-dr"),)),
            BucketConfig("orders-dr", rules=(rule("b", "orders"),)),
        ]
    ),
    "one of many": Topology([BucketConfig("orders", rules=(rule("a", "third"),)), BucketConfig("media")]),
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_whatever_the_rules_say(name: str, stream: tuple[list[dict[str, Any]], Topology], tmp_path: Path) -> None:
    """Rules with tags, prefixes, changes, none that fit, or none at all: both ways leave the same."""
    records, _ = stream
    text = [json.dumps(record, separators=(",", ":")).encode() for record in records]
    assert_same([write_log(tmp_path / "1.json.gz", [_whole(text)])], TOPOLOGIES[name], tmp_path)


def test_nearly_all_records_of_a_log_are_usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an ordinary stream the decoder sees what failed, was deleted or is no write, and little else."""
    logs, rules = simulated(cloudtrail(seed=8, objects=1_000), tmp_path)
    seen: list[bytes] = []
    decoder = Gatherer.take

    def take(self: Any, source: Any, piece: Any, **options: Any) -> Any:  # noqa: ANN401 - passes them on
        seen.extend(raw for data in piece.data for raw in map(bytes, records_of(data) or []))
        return decoder(self, source, piece, **options)

    monkeypatch.setattr(Gatherer, "take", take)
    _, _, events, *_ = answer(logs, rules, tmp_path, short=True)
    assert 0 < len(seen) < events * 0.08


def test_rules_that_are_too_many_are_left_to_the_decoder() -> None:
    """Without rules, and with more prefixes than are worth it, there are no classes."""
    assert classes_of(Topology()) is None
    many = tuple(rule(str(number), "orders-dr", prefix=f"p{number}/") for number in range(MAX_PREFIXES + 1))
    assert classes_of(Topology([BucketConfig("orders", rules=many)])) is None
