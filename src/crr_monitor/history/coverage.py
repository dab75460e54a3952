"""Who was watching when, beside the archive: ``coverage/day=YYYY-MM-DD/NAME.ndjson``, one stretch of time per line.

The lines are JSON (:data:`~crr_monitor.history.schema.COVERAGE`) and no Parquet: there are few of them, and whatever
runs somewhere without DuckDB, such as a Lambda function, can put a file there. A file is replaced as its day goes on.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from crr_monitor.core.coverage import ENDING, FOLDER, TIMES, Stretch, by_day, files, joined
from crr_monitor.core.times import DAY_MS, MINUTE_MS, format_time, parse_time
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.layout import S3, Prefix, split_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from crr_monitor.history.layout import Target
    from crr_monitor.history.views import Span

LOOK_BACK_MS = 31 * DAY_MS
"""A monitor that stood still before the time of a report began, and never came back, is looked for so far back."""

DELIVERY_MS = 15 * MINUTE_MS
"""A CloudTrail log has the events of about so long before the time in its name (User Guide, "How CloudTrail works":
typically within an average of about 5 minutes)."""

_FILE = re.compile(r"day=(\d{4}-\d{2}-\d{2})/[^/]+\.ndjson")
_LOG = re.compile(r"(\d{12})_CloudTrail_([a-z0-9-]+)_(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})Z_[^/]*$")


def save(stretches: Iterable[Stretch], target: Target, name: str) -> None:
    """Write stretches, each of one day, into the files called ``name`` of their days, in place of what was there.

    Raises:
        HistoryError: the archive cannot be written.
    """
    with TemporaryDirectory(prefix="crr-monitor-") as folder, _whole():
        for below, lines in files(stretches, name).items():
            made = target.scratch(Path(folder)) / f"{below.replace('/', '-')}.part"
            made.write_bytes(lines)
            target.place(made, below)


@contextmanager
def _whole() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot write {error.filename}: {error.strerror}; free some space, or check its mode"
        raise HistoryError(message) from error


def load(where: str, s3: Callable[[], Any], cache: Path, span: Span) -> list[Stretch]:
    """What is known of who watched in a time; of a bucket the files are fetched into ``cache``.

    Raises:
        HistoryError: a file cannot be read, or is none of ours.
    """
    first, last = (format_time(max(0, at))[:10] for at in (span.since - LOOK_BACK_MS, span.until - 1))
    if where.startswith(S3):
        bucket, prefix = split_address(where)
        source, folder = Prefix(s3(), bucket, f"{prefix}{FOLDER}/"), cache
        for below, _, _ in source.files(first, last, _FILE):
            if not (folder / below).exists():
                source.fetch(below, folder / below)
    else:
        folder = Path(where) / FOLDER
    return [stretch for file in _files(folder, first, last) for stretch in _read(file)]


def _files(folder: Path, first: str, last: str) -> Iterator[Path]:
    for file in sorted(folder.glob(f"day=*/*{ENDING}")):
        if first <= file.parent.name.removeprefix("day=") <= last:
            yield file


def _read(file: Path) -> Iterator[Stretch]:
    try:
        for line in file.read_bytes().splitlines():
            body = msgspec.json.decode(line, type=dict[str, Any])
            body |= {name: parse_time(body[name])[0] for name in TIMES if name in body}
            yield msgspec.convert(body, Stretch)
    except OSError as error:
        message = f"cannot read {file}: {error.strerror}"
        raise HistoryError(message) from error
    except (ValueError, TypeError, AttributeError) as error:  # no JSON, no time, no stretch
        message = f"{file} is no record of coverage: {error} (remove the file, or restore it)"
        raise HistoryError(message) from error


def of_logs(names: Iterable[str]) -> list[Stretch]:
    """What logs with CloudTrail's names cover: per account and Region the time before each, joined.

    Of logs with other names it is not known whose they are, and nothing is said.
    """
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for name in names:
        told = _told_by_name(name)
        if told is not None:
            place, until = told
            found.setdefault(place, []).append((until - DELIVERY_MS, until))
    return [
        piece
        for (account, region), intervals in sorted(found.items())
        for since, until in joined(intervals)
        for piece in by_day(Stretch("", "CloudTrail logs", "logs", "watched", since, until, account, region))
    ]


def _told_by_name(name: str) -> tuple[tuple[str, str], int] | None:
    """Account and Region of a log, and when it was delivered (milliseconds), if it has CloudTrail's name."""
    log = _LOG.search(name)
    if log is None:
        return None
    account, region, year, month, day, hour, minute = log.groups()
    try:
        until, _ = parse_time(f"{year}-{month}-{day}T{hour}:{minute}:00Z")
    except ValueError:  # a name that only looks like one
        return None
    return (account, region), until


def time_of_logs(names: Iterable[str]) -> tuple[int, int] | None:
    """From when to when logs have events (milliseconds), by their names; ``None`` if one of them does not tell."""
    told = [_told_by_name(name) for name in names]
    times = [each[1] for each in told if each is not None]
    if not times or len(times) < len(told):
        return None
    return min(times) - DELIVERY_MS, max(times)


def save_logs(names: Iterable[str], target: Target) -> None:
    """Tell what logs cover that were read; the same logs read again replace what they told before.

    Raises:
        HistoryError: the archive cannot be written.
    """
    stretches = of_logs(names)
    if stretches:
        digest = hashlib.blake2b(msgspec.json.encode(stretches), digest_size=8).hexdigest()
        save(stretches, target, f"logs-{digest}")
