"""Five hundred object versions, and what has to become of each."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crr_monitor.core.model import Status
from tests.e2e.system import AGENT, BUCKETS, WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.e2e.system import System

KEYS = (
    "plain.txt",
    "a b+c é.txt",
    "%41 %2B 100%.txt",
    "%25252F",
    "日本語/😀.bin",
    "quote\"s'and`more",
    "<xml>&amp;</xml>",
    "back\\slash",
    "?query=1&b=#frag",
    "a//b///c",
    "tab\tkey",
    "e\u0301 combined, é composed",
    "trailing/",
    "trailing space ",
    "..-dots.../.hidden",
    "=+-@;:,$!*()[]{}|~^",
    "\u200bzero width \u202e turned",
    "x" * 900,
    "ü" * 450,
)
"""Keys that something between S3 and the table might not take as they are."""

FINAL = (Status.FAILED, Status.PENDING, Status.COMPLETED, Status.SOURCE_DELETED, Status.NOT_ELIGIBLE)
"""The status of a version is the first of these that one of its copies has."""


PAUSE_SECONDS = 0.02
"""Between two objects that are written while something else happens."""


@dataclass
class Version:
    """One version that was written: what has to be known of it. ``size`` is of puts; elsewhere not each source says."""

    bucket: str
    key: str
    version_id: str
    copies: dict[str, Status]
    marker: bool = False
    size: int | None = None

    @property
    def status(self) -> Status | None:
        """The version's status; none where no rule takes it, as then there is no record."""
        return next((status for status in FINAL if status in self.copies.values()), None)


@dataclass
class Truth:
    """All that was written, and what S3 tells of a copy that it may not make."""

    refused: Status
    versions: list[Version] = field(default_factory=list)

    def add(self, bucket: str, key: str, version_id: str, *, marker: bool = False, size: int | None = None) -> Version:
        """Note a version, with the copies that the buckets' rules ask for."""
        copies = dict.fromkeys(self._destinations(bucket, key, marker=marker), Status.COMPLETED)
        if "locked" in copies:
            copies["locked"] = self.refused
        version = Version(bucket, key, version_id, copies, marker, size)
        self.versions.append(version)
        return version

    @staticmethod
    def _destinations(bucket: str, key: str, *, marker: bool) -> Iterable[str]:
        if bucket == "theirs" or key.startswith("data/"):
            yield "orders-dr"
        if marker:
            return
        if bucket == "theirs" and key.startswith("x/"):
            yield "theirs-dr"
        if bucket == "orders" and key.startswith("data/audit/"):
            yield "audit"
        if bucket == "orders" and key.startswith("data/broken/"):
            yield "locked"


class Writer:
    """Writes with boto3, several calls at a time."""

    def __init__(self, system: System, truth: Truth) -> None:
        self._system = system
        self._truth = truth

    def _client(self, bucket: str, account: str | None = None) -> Any:  # noqa: ANN401 - boto3 makes its classes
        owner, region = BUCKETS[bucket]
        return self._system.s3(account or owner, region)

    def put(self, bucket: str, key: str, account: str | None = None) -> Version:
        """An object with some bytes."""
        body = key.encode()[:7] * 3
        answer = self._client(bucket, account).put_object(Bucket=bucket, Key=key, Body=body)
        return self._truth.add(bucket, key, answer["VersionId"], size=len(body))

    def multipart(self, bucket: str, key: str) -> Version:
        """An object in one part."""
        client, named = self._client(bucket), {"Bucket": bucket, "Key": key}
        upload = client.create_multipart_upload(**named)["UploadId"]
        part = client.upload_part(**named, UploadId=upload, PartNumber=1, Body=b"part")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        answer = client.complete_multipart_upload(**named, UploadId=upload, MultipartUpload=parts)
        return self._truth.add(bucket, key, answer["VersionId"])

    def copy(self, bucket: str, key: str, source: str) -> Version:
        """A copy within the bucket."""
        answer = self._client(bucket).copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": source})
        return self._truth.add(bucket, key, answer["VersionId"])

    def mark(self, bucket: str, key: str) -> Version:
        """A delete marker."""
        answer = self._client(bucket).delete_object(Bucket=bucket, Key=key)
        return self._truth.add(bucket, key, answer["VersionId"], marker=True)

    def remove(self, version: Version) -> None:
        """Delete a version for good."""
        client = self._client(version.bucket)
        client.delete_object(Bucket=version.bucket, Key=version.key, VersionId=version.version_id)


def name(number: int) -> str:
    """A key, each like another of :data:`KEYS`."""
    return f"{number:03}-{KEYS[number % len(KEYS)]}"


def write(system: System) -> Truth:
    """Write everything, in an order in which nothing waits for another, and let S3 finish."""
    truth = Truth(Status.PENDING if system.source == "EventBridge" else Status.FAILED)
    writer = Writer(system, truth)
    with ThreadPoolExecutor(4) as pool:

        def many(count: int, work: Callable[[int], Any]) -> list[Any]:
            return list(pool.map(work, range(count)))

        outage = system.sandbox.outage(bucket="theirs-dr")
        doomed = many(10, lambda number: writer.put("theirs", f"x/doomed-{name(number)}"))
        first = many(120, lambda number: writer.put("orders", f"data/{name(number)}"))
        shared = many(60, lambda number: writer.put("orders", f"data/audit/{name(number)}"))
        many(30, lambda number: writer.put("orders", f"data/broken/{name(number)}"))
        many(30, lambda number: writer.put("orders", f"tmp/{name(number)}"))
        many(20, lambda number: writer.put("orders", f"data/visitor/{name(number)}", AGENT))
        theirs = many(60, lambda number: writer.put("theirs", name(number)))
        many(40, lambda number: writer.put("theirs", f"x/{name(number)}"))
        many(30, lambda number: writer.multipart("orders", f"data/big/{name(number)}"))
        many(30, lambda number: writer.copy("orders", f"data/copy/{name(number)}", first[number].key))
        system.sandbox.settle()
        many(20, lambda number: writer.put("orders", first[number].key))
        many(30, lambda number: writer.mark("orders", first[number].key))
        many(10, lambda number: writer.mark("orders", shared[number].key))
        many(10, lambda number: writer.mark("theirs", theirs[number].key))
        many(10, lambda number: writer.remove(first[-1 - number]))
        many(10, lambda number: writer.remove(doomed[number]))
    for version in doomed:
        version.copies["theirs-dr"] = Status.SOURCE_DELETED
    system.sandbox.settle()
    system.sandbox.end_fault(outage)
    system.sandbox.settle()
    return truth


def write_while(system: System, work: Callable[[], object]) -> Truth:
    """Put objects for as long as some work takes, and some before and after it."""
    truth = Truth(Status.FAILED)
    writer = Writer(system, truth)
    for number in range(10):
        writer.put("orders", f"data/before-{name(number)}")
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(work)
        while not busy.done():
            writer.put("orders", f"data/{name(len(truth.versions))}")
            time.sleep(PAUSE_SECONDS)
        busy.result()
    system.sandbox.settle(WAIT_SECONDS, functions=True)
    for number in range(10):
        writer.put("theirs", f"after-{name(number)}")
    system.sandbox.settle()
    return truth
