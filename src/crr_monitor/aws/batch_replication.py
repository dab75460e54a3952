"""S3 Batch Replication: the manifest is uploaded, a job created and followed, and its completion report read.

User Guide, "Replicating existing objects with Batch Replication", "Creating an S3 Batch Operations job" and "Tracking
job status and completion reports". The job runs in the Region and account of the source bucket.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shlex
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.aws.regions import partition_of
from crr_monitor.aws.sessions import AwsError, call
from crr_monitor.core.batch_report import columns_of, outcome
from crr_monitor.core.repair import FIELDS
from crr_monitor.core.times import BadTimeError, parse_time, to_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from crr_monitor.core.batch_report import Outcome

SCHEME = "s3://"
MANIFEST_FORMAT = "S3BatchOperations_CSV_20180820"
REPORT_FORMAT = "Report_CSV_20180820"
REPORT_MANIFEST = "manifest.json"
ENCRYPTION = "AES256"
"""With S3's own keys the ETag of an object that was put in one call is its MD5, so it is known beforehand."""

LARGEST_MANIFEST = 5 * 10**9
"""Of what one PutObject takes (API Reference, "PutObject")."""

PRIORITY = 10
ENDED = frozenset({"Complete", "Failed", "Cancelled"})
"""Statuses after which a job does not change any more (User Guide, "Job statuses")."""

COMPLETE = "Complete"
NO_REPORT = frozenset({"NoSuchKey", "404"})

NO_JOB = frozenset({"NoSuchJob", "NoSuchJobException"})
NEW_LOOKS = 10
"""So many first looks, some 20 seconds, may miss a job (User Guide, "Troubleshooting S3 Batch Operations", timing)."""

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.2, 20.0, 1.5
"""Seconds between two looks at a job."""

JOINED_LINES = 50
"""So many lines may belong together by an open quote; with more of them, the first one is broken."""


class Location(Struct, frozen=True):
    """``s3://bucket/key``, or a prefix."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    def below(self, name: str) -> Location:
        """Something under this prefix."""
        return Location(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"))


def parse_location(text: str) -> Location | None:
    """What ``s3://bucket/prefix`` says, or ``None``."""
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    return Location(bucket, key) if text.startswith(SCHEME) and bucket else None


class Order(Struct, frozen=True):
    """A job that is wanted: where, with which role, over which manifest. ``attempt`` counts those that have ended.

    ``etag`` and ``sha256`` are the manifest's; the same order is the same job, however often it is placed.
    """

    account: str
    region: str
    role_arn: str
    work: Location
    name: str
    etag: str
    sha256: str
    attempt: int = 0

    @property
    def manifest(self) -> Location:
        """Where the manifest lies: another content, another place."""
        return self.work.below(f"manifests/{self.name}.{self.sha256[:16]}.csv")

    @property
    def subject(self) -> str:
        """What the job is about, whichever attempt it is: 64 hexadecimal digits."""
        return _digest(self.account, self.region, self.role_arn, str(self.work), self.name, self.sha256)

    @property
    def token(self) -> str:
        """``ClientRequestToken``: S3 makes one job for it."""
        return _digest(self.subject, str(self.attempt))

    def report_of(self, job_id: str) -> Location:
        """Where the report of its job is written."""
        return self.work.below(f"reports/job-{job_id}/{REPORT_MANIFEST}")

    @property
    def _partition(self) -> str:
        return partition_of(self.region)

    def request(self) -> dict[str, Any]:
        """CreateJob's request."""
        return {
            "AccountId": self.account,
            "ConfirmationRequired": False,
            "Operation": {"S3ReplicateObject": {}},
            "Report": {
                "Bucket": f"arn:{self._partition}:s3:::{self.work.bucket}",
                "Format": REPORT_FORMAT,
                "Enabled": True,
                "Prefix": self.work.below("reports").key,
                "ReportScope": "AllTasks",
            },
            "ClientRequestToken": self.token,
            "Manifest": {
                "Spec": {"Format": MANIFEST_FORMAT, "Fields": list(FIELDS)},
                "Location": {
                    "ObjectArn": f"arn:{self._partition}:s3:::{self.manifest.bucket}/{self.manifest.key}",
                    "ETag": self.etag,
                },
            },
            "Description": f"crr-monitor retry {self.name}"[:256],
            "Priority": PRIORITY,
            "RoleArn": self.role_arn,
        }

    def commands(self, path: Path | str) -> tuple[str, str]:
        """The same by hand, for a shell: put the manifest, create the job."""
        place = ["--region", self.region]
        put = ["--bucket", self.manifest.bucket, "--key", self.manifest.key, "--body", str(path)]
        request = self.request()
        given = ["--account-id", request["AccountId"], "--no-confirmation-required"]
        for option, name in _DOCUMENTS.items():
            given += [option, json.dumps(request[name], separators=(",", ":"))]
        for option, name in _TEXTS.items():
            given += [option, str(request[name])]
        return (
            shlex.join(["aws", "s3api", "put-object", *place, *put, "--server-side-encryption", ENCRYPTION]),
            shlex.join(["aws", "s3control", "create-job", *place, *given]),
        )


_DOCUMENTS = {"--operation": "Operation", "--manifest": "Manifest", "--report": "Report"}
_TEXTS = {
    "--priority": "Priority",
    "--role-arn": "RoleArn",
    "--client-request-token": "ClientRequestToken",
    "--description": "Description",
}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Job(Struct, frozen=True):
    """A job as DescribeJob tells it."""

    id: str
    status: str
    tasks: int = 0
    succeeded: int = 0
    failed: int = 0
    reasons: tuple[str, ...] = ()
    report: Location | None = None

    @property
    def ended(self) -> bool:
        """Whether it does not change any more."""
        return self.status in ENDED


def upload(s3: Any, order: Order, path: Path) -> None:  # noqa: ANN401 - boto3's client
    """Put the manifest where the order says that it is.

    Raises:
        AwsError: it could not be put, or S3 keeps it in a way that no job could read.
    """
    operation = f"s3:PutObject of {order.manifest}"
    with path.open("rb") as body:
        request = {"Bucket": order.manifest.bucket, "Key": order.manifest.key, "Body": body}
        told = call(operation, s3.put_object, ServerSideEncryption=ENCRYPTION, ContentType="text/csv", **request)
    if str(told["ETag"]).strip('"') != order.etag:
        text = "the stored manifest has another ETag than its MD5: name a bucket of general purpose with --work"
        raise AwsError(operation, "", text)


def create(control: Any, order: Order) -> str:  # noqa: ANN401 - boto3's client
    """Create the job of an order, or find it where it was created before; gives its id.

    Raises:
        AwsError: S3 refused.
    """
    told = call(f"s3:CreateJob in {order.region}", control.create_job, **order.request())
    return str(told["JobId"])


def describe(control: Any, account: str, job_id: str, *, new: bool = False) -> Job:  # noqa: ANN401 - boto3's client
    """The job as it is now; a ``new`` one may not be known everywhere yet.

    Raises:
        AwsError: S3 did not tell.
    """
    try:
        told = call(f"s3:DescribeJob of {job_id}", control.describe_job, AccountId=account, JobId=job_id)["Job"]
    except AwsError as error:
        if new and error.code in NO_JOB:
            return Job(job_id, "New")
        raise
    progress, report = told.get("ProgressSummary", {}), told.get("Report", {})
    bucket = str(report.get("Bucket", "")).rpartition(":")[2]
    return Job(
        job_id,
        str(told["Status"]),
        int(progress.get("TotalNumberOfTasks", 0)),
        int(progress.get("NumberOfTasksSucceeded", 0)),
        int(progress.get("NumberOfTasksFailed", 0)),
        tuple(f"{each.get('FailureCode')}: {each.get('FailureReason')}" for each in told.get("FailureReasons", [])),
        Location(bucket, report.get("Prefix", "")).below(f"job-{job_id}/{REPORT_MANIFEST}") if bucket else None,
    )


def follow(
    control: Any,  # noqa: ANN401 - boto3's client
    account: str,
    job_id: str,
    tell: Callable[[Job], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Job:
    """Wait until a job has ended; ``tell`` is given it whenever it has changed.

    Raises:
        AwsError: S3 did not tell; the job goes on by itself.
    """
    before, pause, looks = None, FIRST_PAUSE, 0
    while True:
        job = describe(control, account, job_id, new=looks < NEW_LOOKS)
        looks += 1
        if job != before:
            tell(job)
        if job.ended:
            return job
        before = job
        sleep(pause)
        pause = min(LONGEST_PAUSE, pause * GROWTH)


class Report(Struct, frozen=True):
    """A completion report's manifest: when it was written (milliseconds), its columns, and its files."""

    written_at: int
    columns: tuple[str, ...]
    files: tuple[Location, ...]


def open_report(s3: Any, where: Location) -> Report:  # noqa: ANN401 - boto3's client
    """Read a report's manifest; ``where`` is the manifest, or the folder in which it lies.

    Raises:
        AwsError: it is not there (code ``NoSuchKey``), could not be read, or is no such manifest.
    """
    if not where.key.endswith(".json"):
        where = where.below(REPORT_MANIFEST)
    operation = f"s3:GetObject of {where}"
    answer = call(operation, s3.get_object, Bucket=where.bucket, Key=where.key)
    data = call(operation, answer["Body"].read)
    try:
        told = json.loads(data)
        files = tuple(Location(str(each["Bucket"]), str(each["Key"])) for each in told["Results"])
    except (KeyError, TypeError, ValueError) as error:
        text = "this is no completion report of S3 Batch Operations: name its manifest.json, or the job's folder"
        raise AwsError(operation, "", text) from error
    return Report(_written_at(told, answer), columns_of(told.get("ReportSchema")), files)


def _written_at(told: dict[str, Any], answer: dict[str, Any]) -> int:
    try:
        return parse_time(str(told.get("ReportCreationDate")))[0]
    except BadTimeError:
        return to_milliseconds(answer["LastModified"])


def read_report(s3: Any, report: Report) -> Iterator[Outcome | None]:  # noqa: ANN401 - boto3's client
    """What each line of a report says, ``None`` of one that cannot be read. Streams.

    Raises:
        AwsError: a file is not there, or broke off.
    """
    for file in report.files:
        operation = f"s3:GetObject of {file}"
        body = call(operation, s3.get_object, Bucket=file.bucket, Key=file.key)["Body"]
        for cells in rows(_texts(operation, body.iter_lines())):
            yield None if cells is None else outcome(cells, report.columns)


def _texts(operation: str, lines: Iterator[bytes]) -> Iterator[str]:
    """Bytes that are no UTF-8 become lone surrogates, which no key and no version id may have."""
    while (line := call(operation, lambda: next(lines, None))) is not None:
        yield line.decode(errors="surrogateescape")


def rows(lines: Iterable[str]) -> Iterator[list[str] | None]:
    """The cells of each record of a CSV file; ``None`` for a line that is none.

    A cell in quotes may go over several lines. A quote that is never closed costs its own line only.
    """
    source, waiting, joined = iter(lines), deque[str](), list[str]()
    while True:
        line = waiting.popleft() if waiting else next(source, None)
        if line is not None:
            joined.append(line)
        if line is None or len(joined) > JOINED_LINES:
            if not joined:
                return
            yield None
            waiting.extendleft(reversed(joined[1:]))
            joined.clear()
        elif sum(part.count('"') for part in joined) % 2 == 0:
            text = "\n".join(joined)
            joined.clear()
            if text:
                yield _cells(text)


def _cells(text: str) -> list[str] | None:
    try:
        return next(csv.reader([text], strict=True), None)
    except csv.Error:
        return None
