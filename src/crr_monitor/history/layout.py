"""Where the archive lies: ``day=YYYY-MM-DD/hour=HH/NAME.parquet`` in a folder or below an S3 prefix."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from crr_monitor.history.driver import HistoryError
from crr_monitor.history.schema import COVERAGE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S3 = "s3://"
ENDING = ".parquet"
PATTERN = f"day=*/hour=*/*{ENDING}"

_DAY = re.compile(r"day=(\d{4}-\d{2}-\d{2})/hour=\d{2}/[^/]+\.parquet")


def partition_path(day: str, hour: str) -> str:
    """The folder of a partition, relative to the archive's."""
    return f"day={day}/hour={hour}"


class Target(Protocol):
    """Takes finished files."""

    def scratch(self, default: Path) -> Path:
        """The folder in which files for it are best made."""

    def put(self, file: Path, day: str, hour: str, name: str) -> None:
        """Move a file into its partition, in place of one of that name; readers see all of it or nothing."""

    def place(self, file: Path, below: str) -> None:
        """The same for any folder of the archive: ``below`` is the file's path within it."""


class Folder:
    """An archive in a folder of this machine."""

    def __init__(self, path: Path) -> None:
        """Make the folder.

        Raises:
            HistoryError: that cannot be done.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot make the archive {path}: {error.strerror}; name another folder with --archive"
            raise HistoryError(message) from error

    def scratch(self, default: Path) -> Path:  # noqa: ARG002 - a bucket has no better one
        """Within the archive: only there a file can be put in place at once."""
        folder = self.path / ".unfinished"
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def put(self, file: Path, day: str, hour: str, name: str) -> None:
        """Make the file durable, then give it its name."""
        self.place(file, f"{partition_path(day, hour)}/{name}")

    def place(self, file: Path, below: str) -> None:
        """See :class:`Target`."""
        to = self.path / below
        with self._writing():
            to.parent.mkdir(parents=True, exist_ok=True)
            sync(file)
            file.replace(to)
            for made in (to.parent, to.parent.parent, self.path):
                sync(made)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"cannot write to the archive {self.path}: {error.strerror}; free some space, or check its mode"
            raise HistoryError(message) from error


def sync(path: Path) -> None:
    """Have what is in a file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Prefix:
    """An archive below an S3 prefix. ``client`` is boto3's."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:  # noqa: ANN401
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def scratch(self, default: Path) -> Path:
        """Anywhere."""
        return default

    def put(self, file: Path, day: str, hour: str, name: str) -> None:
        """Upload the file: S3 shows an object when it is whole."""
        self.place(file, f"{partition_path(day, hour)}/{name}")

    def place(self, file: Path, below: str) -> None:
        """See :class:`Target`."""
        key = f"{self._prefix}{below}"
        with _asking(f"{S3}{self._bucket}/{key}"):
            self._client.upload_file(str(file), self._bucket, key)
        file.unlink()

    def files(self, first: str, last: str, form: re.Pattern[str] = _DAY) -> Iterator[tuple[str, int, str]]:
        """Key below the prefix, size and ETag of each file whose day (the form's group) lies within the two."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        with _asking(f"{S3}{self._bucket}/{self._prefix}"):
            for page in pages:
                for item in page.get("Contents", ()):
                    below = item["Key"][len(self._prefix) :]
                    found = form.fullmatch(below)
                    if found and first <= found[1] <= last:
                        yield below, item["Size"], item["ETag"].strip('"')

    def fetch(self, below: str, to: Path) -> None:
        """Download one file."""
        to.parent.mkdir(parents=True, exist_ok=True)
        unfinished = to.with_name(f".{to.name}.part")
        with _asking(f"{S3}{self._bucket}/{self._prefix}{below}"):
            self._client.download_file(self._bucket, self._prefix + below, str(unfinished))
        unfinished.replace(to)


class _asking:  # noqa: N801 - reads as a word where it is used
    """Within it, what S3 refuses becomes one line that names the object."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and type(error).__module__.partition(".")[0] in {"boto3", "botocore", "s3transfer"}:
            message = f"{self._what}: {error} (check name, Region and permissions: s3:ListBucket, s3:GetObject)"
            raise HistoryError(message) from error


def split_address(where: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/prefix``; a prefix that is not empty ends in ``/``.

    Raises:
        HistoryError: it names no bucket.
    """
    bucket, _, prefix = where.removeprefix(S3).partition("/")
    if not bucket:
        message = f"{where}: names no bucket; write s3://bucket/prefix"
        raise HistoryError(message)
    return bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""


def open_target(where: str, s3: Callable[[], Any]) -> Target:
    """The archive to write to; ``s3`` makes boto3's client where one is needed."""
    if where.startswith(S3):
        return Prefix(s3(), *split_address(where))
    return Folder(Path(where))


def _check_readable(folder: Path) -> None:
    """What may not be listed would be passed over in silence, and an answer without it would be wrong."""

    def fail(error: OSError) -> None:
        message = (
            f"cannot read {error.filename} of the archive: {error.strerror}; change its mode, or run as a user who may"
            " read it"
        )
        raise HistoryError(message) from error

    for _, folders, _ in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if name.startswith(("day=", "hour=", COVERAGE_FOLDER))]


def local_copy(where: str, s3: Callable[[], Any], cache: Path, first: str = "", last: str = "9") -> Path:
    """The folder to read the archive from: itself, or what was downloaded of a bucket into ``cache``.

    Of a bucket only the days from ``first`` to ``last`` are fetched (dates as text compare as dates), and what the
    cache has already is not fetched again.

    Raises:
        HistoryError: there is no archive, nothing in it, or not all of it may be read.
    """
    if where.startswith(S3):
        source = Prefix(s3(), *split_address(where))
        folder = cache
        for below, size, tag in source.files(first, last):
            there = folder / below.replace(ENDING, f".{tag}{ENDING}")
            if not there.exists() or there.stat().st_size != size:
                source.fetch(below, there)
    else:
        folder = Path(where)
        if folder.is_file():
            message = f"{where} is a file: name the archive's folder, in which there are folders day=YYYY-MM-DD"
            raise HistoryError(message)
        if not folder.is_dir():
            message = f"no archive at {where}: `crr-monitor ingest --archive {where} SOURCE...` makes one"
            raise HistoryError(message)
        _check_readable(folder)
    if next(folder.glob(PATTERN), None) is None:
        message = f"the archive {where} is empty: nothing has settled yet, or it was written elsewhere"
        raise HistoryError(message)
    return folder
