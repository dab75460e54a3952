"""How much of each AWS service a month of a given volume needs, counted from how the deployment is built.

A month has 30 days. What is no count but an assumption is a named constant here, with its reason.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias, get_args

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

Source: TypeAlias = Literal["CloudTrail", "EventBridge", "S3Notifications"]
Mode: TypeAlias = Literal["Scheduled", "Continuous"]
Metrics: TypeAlias = Literal["Totals", "PerPair"]
DeniedReads: TypeAlias = Literal["No", "Objects", "All"]
SOURCES: tuple[Source, ...] = get_args(Source)
MODES: tuple[Mode, ...] = get_args(Mode)
METRICS: tuple[Metrics, ...] = get_args(Metrics)
DENIED_READS: tuple[DeniedReads, ...] = get_args(DeniedReads)

DAYS = 30
MINUTES = DAYS * 24 * 60
GB = Decimal(10**9)

SAME_BATCH_SHARE: dict[Mode, Decimal] = {"Scheduled": Decimal("0.75"), "Continuous": Decimal("0.25")}
"""Assumed: most copies arrive within some 15 seconds, and a batch gathers a minute of events, or 10 seconds of them."""

EVENT_BYTES: dict[Source, int] = {"CloudTrail": 2_500, "EventBridge": 1_000, "S3Notifications": 1_000}
"""A message, about; for data transfer between Regions. All are below the 64 KB that count as one request."""

TRAIL_FILE_EVERY_MINUTES = 5
TRAIL_BYTES = 300
"""A data event in a compressed log file, about. The trail's files are kept for a day."""

SQS_BATCH = 10
"""Messages in one ReceiveMessage or DeleteMessageBatch, at most."""
IDLE_POLLS: dict[Mode, int] = {"Scheduled": MINUTES, "Continuous": 5 * 3 * MINUTES}
"""Empty receives: one ends each scheduled run; Lambda keeps 5 pollers on a queue, each waiting 20 seconds."""
CHANGES_POLLS = IDLE_POLLS["Continuous"]
"""Of the queue of changes that each account's set-up has, whose messages are few."""

BATCH = 500
"""Messages or changes that a function gets at once, at most."""
PROCESS_WINDOWS: dict[Mode, int] = {"Scheduled": MINUTES, "Continuous": 6 * MINUTES}
SETTLE_WINDOWS = 12 * MINUTES
"""Batching windows in a month: 10 seconds for events, 5 seconds for changes of records."""

MEMORY_GB = Decimal("0.5")
CALL_SECONDS = Decimal("0.02")
EVENT_SECONDS = Decimal("0.002")
"""Billed time of a function for each call, and for each event or change. At 512 MB a function has 0.29 of a CPU; the
aim is 1 ms of CPU for an object with one destination."""
SETUP_SECONDS = 5
"""Of the hourly set-up, for each Region."""
CALL_LOG_BYTES = 500
"""What a call leaves in the function's log."""

RECORD_BYTES = 500
RECORD_DAYS = 2
"""A record: some 400 bytes and DynamoDB's 100, kept for a day, and removed by DynamoDB within another."""
MARK_BYTES = 180
MARK_DAYS = 400
"""What remembers that a version was counted, for as long as statistics are kept."""

PAIR_METRICS = 8
CANARY_METRICS = 1
SOURCE_METRICS = 2
TOTAL_METRICS = 18
"""Custom metrics of each pair with ``PerPair`` and, if it has one, of its canary, of each source bucket
(FailedReplications and FailedObjects), and of all together. Those that never have a value are counted, too, so it is
rather too many."""
EVENT_KINDS = 4
"""Events has a metric for each kind of event that arrives, about so many; NewestEventAge one for each account."""
METRICS_AT_ONCE = 1_000
HUB_ALARMS = 24
SOURCE_ALARMS = 1
AGENT_ALARMS = 3
ARCHIVE_ALARMS = 3
"""Of the hub's template without its archive, of each source bucket in addition, of each agent, and of the archive."""
DASHBOARDS = 1

LOOKS = DAYS * 24 * 12
"""Runs of the functions that watch and that ask S3, each every five minutes."""
LOOK_SECONDS = 1
"""Of such a run, besides what it asks."""
OVERDUE_SHARE = Decimal("0.01")
"""Assumed: of the copies, those that are asked about, as no event has told of them in time."""
ASKS = 2
"""Of each such copy, at the source and at the destination."""

ARCHIVE_ROW_BYTES = 750
"""Of a row as JSON, with names of usual length."""
FIREHOSE_STEP = 5_000
"""Firehose rounds each record up to 5 KB. Ours hold all rows of a run of settle; the original sent each row alone."""

ORIGINAL_CALLS = Decimal("9.4")
"""AWS API calls for each replicated object with one destination, measured on 500 objects."""
ORIGINAL_SPLIT: dict[str, Decimal] = {
    "sqs_request": Decimal("2.2"),
    "dynamodb_read": Decimal(2),
    "dynamodb_write": Decimal(2),
    "s3_get": Decimal(1),
    "PutRecordBatch": Decimal("0.2"),
    "DescribeTable": Decimal(2),
}
"""Assumed split of these calls: only their sum was measured. The last two are not billed by the call."""
ORIGINAL_CPU_FACTOR = 15
ORIGINAL_SCANS = DAYS * 24 * 12
"""Of the whole table, every five minutes."""
READ_UNIT_BYTES = 4_096

RTC_METRICS = 4
"""Of each pair: ReplicationLatency, BytesPending-, OperationsPending- and OperationsFailedReplication."""


LIMITS = (
    ("objects_per_day", 0, 10**12),
    ("size", 0, 5 * 10**13),
    ("pairs", 1, 10**6),
    ("destinations", 1, 1_000),
    ("accounts", 1, 10**5),
    ("regions", 1, 100),
    ("canaries", 0, 10**4),
)
"""Whole numbers of a volume with the least and the most that is allowed."""


class VolumeError(ValueError):
    """The figure ``name`` of a volume makes no sense; the text names it, its value and what is allowed."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} is {problem}")
        self.name = name
        self.problem = problem


class Volume(Struct, frozen=True, kw_only=True):
    """What is replicated.

    ``size`` is the mean size in bytes; ``pairs`` counts source and destination buckets that belong together;
    ``destinations`` is of each object; ``cross_account_share`` of the events come from accounts other than the hub's;
    ``same_batch_share`` of the copies are processed together with their source (default: by processing mode);
    ``archive``: copies are also archived through Firehose; ``canaries`` are pairs that have one; ``denied_reads`` are
    the reads at the source that a trail logs.
    """

    objects_per_day: int
    size: int = 1_000_000
    pairs: int = 1
    destinations: int = 1
    cross_account_share: Decimal = Decimal(0)
    accounts: int = 1
    regions: int = 2
    same_batch_share: Decimal | None = None
    metrics: Metrics = "Totals"
    archive: bool = False
    canaries: int = 0
    denied_reads: DeniedReads = "No"

    def __post_init__(self) -> None:
        for name, least, most in LIMITS:
            if not least <= getattr(self, name) <= most:
                self._refuse(name, f"allowed is a whole number from {least:,} to {most:,}")
        for name in ("cross_account_share", "same_batch_share"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                self._refuse(name, "allowed is a share from 0 to 1")
        if self.pairs < self.destinations:
            self._refuse("pairs", f"objects with {self.destinations} destinations make as many pairs at least")
        if self.cross_account_share and self.accounts == 1:
            self._refuse("accounts", "where events come from other accounts, there are 2 at least")

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise VolumeError(name, f"{getattr(self, name)}: {why}")

    @property
    def objects(self) -> Decimal:
        """Object versions written in a month."""
        return Decimal(self.objects_per_day * DAYS)

    @property
    def copies(self) -> Decimal:
        """Replicas made in a month."""
        return self.objects * self.destinations

    @property
    def events(self) -> Decimal:
        """One for each write and one for each replica."""
        return self.objects + self.copies

    @property
    def source_buckets(self) -> int:
        """As many as the pairs make with so many destinations each."""
        return -(-self.pairs // self.destinations)

    def same_batch(self, mode: Mode) -> Decimal:
        """The share of copies that are processed together with their source."""
        return SAME_BATCH_SHARE[mode] if self.same_batch_share is None else self.same_batch_share


class Usage(Struct, frozen=True):
    """So much of something in a month: ``quantity`` in the units of the price named ``price``."""

    service: str
    what: str
    price: str
    quantity: Decimal


class StatusWrites(Struct, frozen=True):
    """Expected for one object version in the status table; an item is below 1 KB, so a write is one unit.

    With one destination: 1 update when source and replica come together, else 2, and the record is put into the index
    of open records and taken out again. With more destinations, each copy but the last that comes apart takes the
    record out of the index by mistake, and a second update puts it back.
    """

    updates: Decimal
    index: Decimal
    changes: Decimal
    """Updates that say something new."""


def status_writes(destinations: int, same_batch: Decimal) -> StatusWrites:
    """What is expected when each copy comes together with its source with probability ``same_batch``."""
    apart = destinations * (1 - same_batch)
    return StatusWrites(updates=2 * apart + same_batch**destinations, index=2 * apart, changes=1 + apart)


def usages(volume: Volume, source: Source, mode: Mode) -> list[Usage]:
    """All that the deployment uses in a month."""
    found = [
        *_cloudtrail(volume, source),
        *_eventbridge(volume, source),
        *_messages(volume, source, mode),
        *_functions(volume, mode),
        *_tables(volume, mode),
        *_cloudwatch(volume, mode),
    ]
    found.append(Usage("S3", "HEADs of overdue copies", "s3_get", volume.copies * OVERDUE_SHARE * ASKS))
    if volume.archive:
        found += _archive(volume)
    return found


def _cloudtrail(volume: Volume, source: Source) -> Iterator[Usage]:
    if source != "CloudTrail":
        return
    files = Decimal(volume.accounts * volume.regions * MINUTES // TRAIL_FILE_EVERY_MINUTES)
    yield Usage("CloudTrail", "data events", "cloudtrail_data_event", volume.events)
    yield Usage("S3", "trail's log files", "s3_put", files)
    yield Usage("S3", "trail's log files, kept a day", "s3_storage", volume.events / DAYS * TRAIL_BYTES / GB)


def _eventbridge(volume: Volume, source: Source) -> Iterator[Usage]:
    if source == "S3Notifications":
        return  # S3 publishes to the topic, also from other accounts
    price = "eventbridge_cloudtrail_event" if source == "CloudTrail" else "eventbridge_s3_event"
    yield Usage("EventBridge", "events of AWS services", price, volume.events)
    yield Usage(
        "EventBridge",
        "events sent to the hub's bus",
        "eventbridge_cross_account_event",
        volume.events * volume.cross_account_share,
    )


def _messages(volume: Volume, source: Source, mode: Mode) -> Iterator[Usage]:
    yield Usage("SNS", "messages published", "sns_publish", volume.events)
    yield Usage("SQS", "messages sent", "sqs_request", volume.events)
    yield Usage("SQS", "messages received and deleted", "sqs_request", 2 * volume.events / SQS_BATCH)
    yield Usage("SQS", "receives of nothing", "sqs_request", Decimal(IDLE_POLLS[mode]))
    yield Usage("SQS", "receives of nothing, by set-up", "sqs_request", Decimal(CHANGES_POLLS * volume.accounts))
    if volume.regions > 1:
        transferred = volume.copies * EVENT_BYTES[source] / GB
        yield Usage("Data transfer", "messages about replicas, to the hub's Region", "transfer_gb", transferred)


def _process_calls(volume: Volume, mode: Mode) -> Decimal:
    windows = Decimal(PROCESS_WINDOWS[mode])
    return (windows if mode == "Scheduled" else min(windows, volume.events)) + volume.events / BATCH


def _stream_entries(volume: Volume, mode: Mode) -> Decimal:
    """Every update, and the removal when the record's time is over."""
    return volume.objects * (status_writes(volume.destinations, volume.same_batch(mode)).updates + 1)


def _settle_calls(volume: Volume, mode: Mode) -> Decimal:
    entries = _stream_entries(volume, mode)
    return min(Decimal(SETTLE_WINDOWS), entries) + entries / BATCH


def _setup_calls(volume: Volume) -> Decimal:
    return Decimal(volume.accounts * DAYS * 24)


def _functions(volume: Volume, mode: Mode) -> Iterator[Usage]:
    work = (
        ("process", _process_calls(volume, mode), volume.events * EVENT_SECONDS),
        ("settle", _settle_calls(volume, mode), _stream_entries(volume, mode) * EVENT_SECONDS),
        ("reconcile", Decimal(LOOKS), LOOKS * LOOK_SECONDS + volume.copies * OVERDUE_SHARE * ASKS * CALL_SECONDS),
        ("watch", Decimal(LOOKS), Decimal(LOOKS * LOOK_SECONDS)),
        ("set-up", _setup_calls(volume), _setup_calls(volume) * volume.regions * SETUP_SECONDS),
    )
    for name, calls, seconds in work:
        yield Usage("Lambda", f"calls of {name}", "lambda_request", calls)
        yield Usage("Lambda", f"time of {name}", "lambda_gb_second", (calls * CALL_SECONDS + seconds) * MEMORY_GB)


def _tables(volume: Volume, mode: Mode) -> Iterator[Usage]:
    each = status_writes(volume.destinations, volume.same_batch(mode))
    calls, settles = _process_calls(volume, mode), _settle_calls(volume, mode)
    changes = volume.objects * each.changes
    cells = min(changes, Decimal(SETTLE_WINDOWS * volume.pairs))
    yield Usage("DynamoDB", "updates of records", "dynamodb_write", volume.objects * each.updates)
    yield Usage("DynamoDB", "index of open records", "dynamodb_write", volume.objects * each.index)
    # The newest event and the counts, for each batch.
    yield Usage("DynamoDB", "the monitor's own items", "dynamodb_write", 2 * calls)
    # A transaction is billed twice: the position in the stream, and the counters of each pair.
    yield Usage("DynamoDB", "statistics, in transactions", "dynamodb_write", 2 * (settles + cells))
    yield Usage("DynamoDB", "marks of what was counted", "dynamodb_write", volume.objects)
    yield Usage("DynamoDB", "reads of marks by settle", "dynamodb_read", changes + volume.objects)
    yield Usage("DynamoDB", "reads of positions and topology", "dynamodb_read", settles + calls)
    per_day = Decimal(volume.objects_per_day)
    yield Usage("DynamoDB", "records stored", "dynamodb_storage", per_day * RECORD_DAYS * RECORD_BYTES / GB)
    yield Usage("DynamoDB", "marks stored, after 400 days", "dynamodb_storage", per_day * MARK_DAYS * MARK_BYTES / GB)


def _cloudwatch(volume: Volume, mode: Mode) -> Iterator[Usage]:
    metrics = TOTAL_METRICS + EVENT_KINDS + volume.accounts + SOURCE_METRICS * volume.source_buckets
    if volume.metrics == "PerPair":
        metrics += PAIR_METRICS * volume.pairs + CANARY_METRICS * volume.canaries
    alarms = HUB_ALARMS + SOURCE_ALARMS * volume.source_buckets + AGENT_ALARMS * (volume.accounts - 1)
    calls = _process_calls(volume, mode) + _settle_calls(volume, mode) + _setup_calls(volume) + 2 * LOOKS
    # What happened is put by settle at each of its calls, how it is by watch.
    puts = _settle_calls(volume, mode) + -(-metrics // METRICS_AT_ONCE) * LOOKS
    yield Usage("CloudWatch", "custom metrics", "cloudwatch_metric", Decimal(metrics))
    yield Usage("CloudWatch", "requests that put them", "cloudwatch_put", puts)
    yield Usage("CloudWatch", "alarms", "cloudwatch_alarm", Decimal(alarms))
    yield Usage("CloudWatch", "dashboard", "cloudwatch_dashboard", Decimal(DASHBOARDS))
    yield Usage("CloudWatch", "logs of the functions", "cloudwatch_log_gb", calls * CALL_LOG_BYTES / GB)


def _archive(volume: Volume) -> list[Usage]:
    # Each window's last record is rounded up; full ones are so large that it does not count.
    rounded = min(volume.copies, Decimal(SETTLE_WINDOWS)) * (FIREHOSE_STEP - ARCHIVE_ROW_BYTES)
    sent = (volume.copies * ARCHIVE_ROW_BYTES + rounded) / GB
    return [
        Usage("Firehose", "rows of the archive", "firehose_gb", sent),
        Usage("Firehose", "conversion to Parquet", "firehose_conversion_gb", sent),
        Usage("CloudWatch", "alarms of the archive", "cloudwatch_alarm", Decimal(ARCHIVE_ALARMS)),
    ]


def original_usages(volume: Volume) -> list[Usage]:
    """What the original design (archived in 2023) needs, at today's on-demand prices, with CloudTrail as its source.

    Not counted: its second copy of management events, which depends on all else that an account does.
    """
    calls = {name: volume.copies * count for name, count in ORIGINAL_SPLIT.items()}
    read_by_scan = volume.objects_per_day * Decimal(RECORD_BYTES) / READ_UNIT_BYTES / 2 * ORIGINAL_SCANS
    seconds = volume.events * EVENT_SECONDS * ORIGINAL_CPU_FACTOR
    return [
        *_cloudtrail(volume, "CloudTrail"),
        *_eventbridge(volume, "CloudTrail"),
        Usage("SNS", "messages published", "sns_publish", volume.events),
        Usage("SQS", "messages sent", "sqs_request", volume.events),
        Usage("SQS", "messages received and deleted", "sqs_request", calls["sqs_request"]),
        Usage("SQS", "receives of nothing", "sqs_request", Decimal(MINUTES)),
        Usage("Lambda", "calls", "lambda_request", MINUTES + volume.events / SQS_BATCH),
        Usage("Lambda", "time", "lambda_gb_second", seconds * MEMORY_GB),
        Usage("DynamoDB", "updates of records", "dynamodb_write", calls["dynamodb_write"]),
        Usage("DynamoDB", "reads of records", "dynamodb_read", calls["dynamodb_read"]),
        Usage("DynamoDB", "scans of the table every five minutes", "dynamodb_read", read_by_scan),
        Usage("DynamoDB", "records stored", "dynamodb_storage", Decimal(volume.objects_per_day) * RECORD_BYTES / GB),
        Usage("S3", "HEADs of objects", "s3_get", calls["s3_get"]),
        Usage("Firehose", "rows of the archive", "firehose_gb", volume.copies * FIREHOSE_STEP / GB),
        Usage("CloudWatch", "custom metrics", "cloudwatch_metric", Decimal(2 * volume.pairs + volume.source_buckets)),
    ]


def metrics_usages(volume: Volume) -> list[Usage]:
    """S3's own replication metrics: no objects, no percentiles."""
    return [Usage("CloudWatch", "S3's replication metrics", "cloudwatch_metric", Decimal(RTC_METRICS * volume.pairs))]


def rtc_usages(volume: Volume) -> list[Usage]:
    """S3 Replication Time Control, which comes with those metrics."""
    replicated = volume.copies * volume.size / GB
    return [Usage("S3", "data under Replication Time Control", "s3_rtc_gb", replicated), *metrics_usages(volume)]
