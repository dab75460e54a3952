"""What one line of a completion report of S3 Batch Replication says of an object version.

User Guide, "Examples: S3 Batch Operations completion reports" and "Amazon S3 replication failure reasons": a line has
the columns that the report's manifest names (``ReportSchema``); keys are URL-encoded. In AWS's own examples error code
and HTTP status code stand in each other's column, and S3's reason may be in the message, so the reason is looked for
in all three.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import unquote_plus

from msgspec import Struct

from crr_monitor.core.events import BadEventError, Deleted
from crr_monitor.core.failures import CATALOGUE, Effect

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("Bucket", "Key", "VersionId", "TaskStatus", "ErrorCode", "HTTPStatusCode", "ResultMessage")
"""Those of a report that does not name its own."""

Said: TypeAlias = Literal["completed", "failed", "untried"]

_WORD = re.compile(r"[A-Za-z]{6,}")
_LIKE_A_REASON = re.compile(r"(?:Src|Dst)[A-Z][A-Za-z]+")
_OF_THE_JOB = "batch job"
"""The catalogue's group of reasons for which the job did not even begin to replicate the version."""


class Outcome(Struct, frozen=True):
    """What became of one version.

    ``failed``: S3 tried and said why it could not. ``untried``: the task failed for a reason that tells nothing of the
    replication (the job's role, a throttle, an error of the service), so nothing is known of the version.
    """

    bucket: str
    key: str
    version_id: str
    says: Said
    reason: str | None = None


def columns_of(schema: object) -> tuple[str, ...]:
    """The columns that a report's manifest names, or those of AWS's description where it names none that will do."""
    names = tuple(part.strip() for part in schema.split(",")) if isinstance(schema, str) else ()
    return names if set(COLUMNS[:4]) <= set(names) else COLUMNS


def outcome(cells: Sequence[str], columns: Sequence[str] = COLUMNS) -> Outcome | None:
    """The line's meaning; ``None`` where it has none: too few columns, no version id, a key that is no URL-encoding."""
    told = dict(zip(columns, cells, strict=False))
    try:
        key = unquote_plus(told.get("Key", ""), errors="strict")
        # An event checks bucket, key and version id as they have to be, and is not needed for anything else.
        Deleted(told.get("Bucket", ""), key, told.get("VersionId", ""), 0, whole_seconds=False)
    except (BadEventError, UnicodeDecodeError):
        return None
    status = told.get("TaskStatus", "").strip().lower()
    version = (told["Bucket"], key, told["VersionId"])
    if status == "succeeded":
        return Outcome(*version, "completed")
    if status != "failed":
        return None
    reason, kind = _reason([_clean(told.get(name, "")) for name in COLUMNS[4:]])
    return Outcome(*version, kind, reason)


def _clean(cell: str) -> str:
    """Words as they can be stored: half a surrogate pair cannot."""
    return cell.strip().encode("utf-8", "replace").decode()


def _reason(cells: Sequence[str]) -> tuple[str, Said]:
    """The reason, and what it makes of a failed task: a version that was replicated already has not failed."""
    for cell in cells:
        for word in _WORD.findall(cell):
            known = CATALOGUE.get(word)
            if known is not None:
                done: Said = "completed" if known.effect is Effect.NOTHING else "failed"
                return word, "untried" if known.group == _OF_THE_JOB else done
            if _LIKE_A_REASON.fullmatch(word):
                return word, "failed"
    codes = [cell for cell in cells[:2] if cell and not cell.isdigit()]
    words = [cell for cell in cells[2:] if cell]
    return ": ".join([*codes, *words]) or "no reason was told", "untried"
