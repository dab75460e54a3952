"""Compare what a store holds with the truth of a simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import Struct

from crr_monitor.simulate.plan import SimulateError

if TYPE_CHECKING:
    from pathlib import Path

Lookup: TypeAlias = Callable[[str, str, str], Mapping[str, Any] | None]
"""The store's record of (source bucket, key, version id) in the published JSON shape, or None."""

Value: TypeAlias = str | int | float | None

FIELDS = ("key", "version_id", "operation", "size", "etag", "written_at", "time_precision", "status")
SOURCE_FIELDS = ("bucket", "account", "region")
COPY_FIELDS = (
    "account",
    "region",
    "rule_id",
    "status",
    "replicated_at",
    "lag_seconds",
    "failed_at",
    "failure_reason",
    "evidence",
)
MISSING = "record"
"""The field of a difference that says: there is no record at all."""


class Difference(Struct, frozen=True):
    """One field of one object version; None stands for a field that is absent."""

    bucket: str
    key: str
    version_id: str
    field: str
    expected: Value
    actual: Value


class Differences(Struct, frozen=True):
    """The outcome of a comparison. ``examples`` shows the fields of the first versions that differ or are missing.

    ``extra`` is the number of records that the store has beyond those of the truth.
    """

    compared: int
    missing: int
    extra: int
    different: int
    examples: tuple[Difference, ...]

    @property
    def none(self) -> bool:
        """Whether the store holds the truth and nothing else."""
        return not (self.missing or self.extra or self.different)


def compare(truth: Path, lookup: Lookup, count: Callable[[], int], examples: int = 10) -> Differences:
    """Compare the truth file with a store, one record at a time, in any length.

    ``count`` gives the number of records that the store shows. Fields that no truth has are passed over, but a known
    one that is absent here has to be absent there. ``examples``: of how many versions to show the differences.

    Raises:
        SimulateError: the file cannot be read or is no truth file; the text names the line.
    """
    compared = missing = different = shown = 0
    found: list[Difference] = []
    for expected in _records(truth):
        compared += 1
        bucket, key, version_id = expected["source"]["bucket"], expected["key"], expected["version_id"]
        actual = lookup(bucket, key, version_id)
        if actual is None:
            missing += 1
            fields: list[tuple[str, Value, Value]] = [(MISSING, "present", None)]
        else:
            fields = differing_fields(expected, actual)
            different += bool(fields)
        if fields and shown < examples:
            shown += 1
            found.extend(Difference(bucket, key, version_id, *field) for field in fields)
    return Differences(compared, missing, count() - (compared - missing), different, tuple(found))


def differing_fields(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[tuple[str, Value, Value]]:
    """Name each field in which two records differ, with both values; destinations are matched by bucket."""
    left, right = _flat(expected), _flat(actual)
    if left == right:
        return []
    names = [*left, *(name for name in right if name not in left)]
    differing = [name for name in names if name not in left or name not in right or left[name] != right[name]]
    return [(name, left.get(name), right.get(name)) for name in differing]


def _flat(record: Mapping[str, Any]) -> dict[str, Value]:
    source = record.get("source", {})
    flat: dict[str, Value] = {f"source.{name}": source[name] for name in SOURCE_FIELDS if name in source}
    flat.update((name, record[name]) for name in FIELDS if name in record)
    for copy in record.get("destinations", ()):
        bucket = copy.get("bucket")
        flat[f"{bucket}"] = "present"
        flat.update((f"{bucket}.{name}", copy[name]) for name in COPY_FIELDS if name in copy)
    return flat


def _records(truth: Path) -> Iterator[dict[str, Any]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    try:
        with truth.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = decode(line)
                    _ = record["source"]["bucket"], record["key"], record["version_id"]
                except (msgspec.DecodeError, KeyError, TypeError) as error:
                    message = f"{truth}, line {number} is no record of a truth file: {error}"
                    raise SimulateError(message) from error
                yield record
    except OSError as error:
        message = f"cannot read the truth file {truth}: {error.strerror}"
        raise SimulateError(message) from error
