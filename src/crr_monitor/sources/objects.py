"""Objects in S3 as sources: each is fetched whole, then read like a file. ``client`` is boto3's, made by the caller."""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.sources.base import PIECE_BYTES, PIECE_ITEMS, Piece, SourceError
from crr_monitor.sources.files import ENDINGS, FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

SCHEME = "s3://"
_NO_EVENTS = re.compile(r"/CloudTrail-(Digest|Insight|Aggregated)/")
"""What CloudTrail writes beside its logs: User Guide, "CloudTrail digest file structure"."""


class Found(Struct, frozen=True):
    """An object that a listing gave. ``tag`` changes with its content."""

    name: str
    size: int
    tag: str


def split_name(name: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``.

    Raises:
        SourceError: it names no bucket.
    """
    bucket, _, key = name.removeprefix(SCHEME).partition("/")
    if not bucket:
        message = f"{name}: names no bucket; write s3://bucket/prefix"
        raise SourceError(message)
    return bucket, key


def list_logs(client: Any, name: str) -> list[Found]:  # noqa: ANN401
    """The logs below ``s3://bucket/prefix``, by name; what is no log, or is CloudTrail's digest, is passed over.

    Raises:
        SourceError: the bucket cannot be listed, or there are no logs.
    """
    bucket, prefix = split_name(name)
    found = []
    with _explained(name, "s3:ListBucket"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                key = item["Key"]
                plain = key.lower().removesuffix(".gz")
                if (plain.endswith(ENDINGS) or key == prefix) and not _NO_EVENTS.search(f"/{key}"):
                    found.append(Found(f"{SCHEME}{bucket}/{key}", item["Size"], item["ETag"].strip('"')))
    if not found:
        message = f"{name}: no logs below this prefix; check it, `aws s3 ls {name}` shows what is there"
        raise SourceError(message)
    return sorted(found, key=lambda each: each.name)


AHEAD = 4
"""Objects that are fetched while the ones before them are read."""


def object_sources(client: Any, logs: Sequence[Found]) -> list[ObjectSource]:  # noqa: ANN401
    """Objects as sources. Reading one begins to fetch those after it."""
    fetcher = _Fetcher(client, logs)
    return [ObjectSource(fetcher, log) for log in logs]


class ObjectSource:
    """One object: :class:`crr_monitor.sources.base.Source`."""

    def __init__(self, fetcher: _Fetcher, found: Found) -> None:
        """Nothing is fetched yet."""
        self.name = found.name
        self._found = found
        self._fetcher = fetcher

    @property
    def size(self) -> int | None:
        """Raw bytes, as the listing gave them."""
        return self._found.size

    @property
    def fingerprint(self) -> str | None:
        """Another one once the object has other content."""
        return f"{self._found.size}-{self._found.tag}"

    def begins_with(self, fingerprint: str) -> bool:
        """Whether it is the object that was read then: objects never grow, they are replaced."""
        return fingerprint == self.fingerprint

    def fetched(self) -> AbstractContextManager[Path]:
        """The object as a file, for as long as the context lasts."""
        return self._fetcher.fetched(self._found)

    def pieces(
        self, start: int = 0, piece_bytes: int = PIECE_BYTES, max_items: int = PIECE_ITEMS, *, follow: bool = False
    ) -> Iterator[Piece]:
        """Fetch the object and read on from a position; see :meth:`crr_monitor.sources.base.Source.pieces`."""
        with self.fetched() as path:
            yield from FileSource(str(path)).pieces(start, piece_bytes, max_items, follow=follow)


class _Fetcher:
    """Downloads into a temporary folder, a few objects ahead of the one that is read."""

    def __init__(self, client: Any, logs: Sequence[Found]) -> None:  # noqa: ANN401
        self._client = client
        self._logs = logs
        self._numbers = {log.name: number for number, log in enumerate(logs)}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future[Path]] = {}

    @contextmanager
    def fetched(self, log: Found) -> Iterator[Path]:
        """The object as a file, which is removed afterwards."""
        if self._pool is None or self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="crr-monitor-")
            self._pool = ThreadPoolExecutor(AHEAD)
        number = self._numbers[log.name]
        for each in range(number, min(number + AHEAD, len(self._logs))):
            if each not in self._coming:
                self._coming[each] = self._pool.submit(self._fetch, each, Path(self._folder.name))
        path = self._coming.pop(number).result()
        try:
            yield path
        finally:
            path.unlink()
            if number + 1 == len(self._logs):
                self._end()

    def _fetch(self, number: int, folder: Path) -> Path:
        name = self._logs[number].name
        bucket, key = split_name(name)
        path = folder / str(number)
        with _explained(name, "s3:GetObject"):
            self._client.download_file(bucket, key, str(path))
        return path

    def _end(self) -> None:
        if self._pool is not None and self._folder is not None:
            self._pool.shutdown(cancel_futures=True)
            self._folder.cleanup()
        self._pool = self._folder = None
        self._coming.clear()


class _explained:  # noqa: N801 - reads as a word where it is used
    """Within it, what S3 refuses becomes one line with the permission that is needed."""

    def __init__(self, name: str, permission: str) -> None:
        self._name = name
        self._permission = permission

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and type(error).__module__.partition(".")[0] in {"boto3", "botocore", "s3transfer"}:
            message = f"{self._name}: {error} (check the name, the Region and the permission {self._permission})"
            raise SourceError(message) from error
