"""Lines of completion reports: what succeeded, what failed and why, what was not tried, what cannot be read."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.batch_report import COLUMNS, Outcome, columns_of, outcome
from crr_monitor.core.repair import manifest_line
from tests.core.test_repair import KEYS

VERSION = ("orders", "a", "v1")


def line(*rest: str, bucket: str = "orders", key: str = "a", version_id: str = "v1") -> Outcome | None:
    """The meaning of a line with these last columns."""
    return outcome([bucket, key, version_id, *rest])


def test_succeeded() -> None:
    """S3 has replicated the version."""
    assert line("succeeded", "", "200", "Successful") == Outcome(*VERSION, "completed")


@pytest.mark.parametrize(
    "rest",
    [
        ("DstKmsKeyNotFound", "404", ""),
        ("404", "DstKmsKeyNotFound", ""),
        ("", "", "DstKmsKeyNotFound"),
        ("PermanentFailure", "200", 'Replication failed with "DstKmsKeyNotFound"'),
        ("200", "PermanentFailure", "DstKmsKeyNotFound: no such key"),
    ],
)
def test_reason_is_found_in_any_column(rest: tuple[str, ...]) -> None:
    """Error code and HTTP status change places in AWS's own examples, and the reason may be in the message."""
    assert line("failed", *rest) == Outcome(*VERSION, "failed", "DstKmsKeyNotFound")


def test_new_reasons_are_taken() -> None:
    """A code with the form of S3's reasons is one, though the catalogue has not heard of it."""
    assert line("failed", "DstMoonNotFull", "400", "") == Outcome(*VERSION, "failed", "DstMoonNotFull")


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (("InitiateReplicationNotPermitted", "403", "x"), "InitiateReplicationNotPermitted"),
        (("SrcBucketInvalidRegion", "400", ""), "SrcBucketInvalidRegion"),
        (("503", "SlowDown", "Reduce your rate"), "SlowDown: Reduce your rate"),
        (("InternalError", "500", ""), "InternalError"),
        (("", "403", "Access Denied"), "Access Denied"),
        ((), "no reason was told"),
    ],
)
def test_untried_is_not_failed(rest: tuple[str, ...], reason: str) -> None:
    """The job's own trouble, throttling and errors of the service tell nothing of the version."""
    assert line("failed", *rest) == Outcome(*VERSION, "untried", reason)


def test_already_replicated_is_completed() -> None:
    """S3 refuses to replicate again what it has replicated: that is no failure."""
    found = line("failed", "SrcReplicationNotPending", "400", "")
    assert found == Outcome(*VERSION, "completed", "SrcReplicationNotPending")


@pytest.mark.parametrize(
    "cells",
    [
        [],
        ["orders"],
        ["orders", "a", "v1"],
        ["orders", "a", "v1", "maybe"],
        ["orders", "a", "", "succeeded"],
        ["orders", "a", "null", "succeeded"],
        ["", "a", "v1", "succeeded"],
        ["orders", "", "v1", "succeeded"],
        ["orders", "%ff", "v1", "succeeded"],
        ["orders", "a" * 1_025, "v1", "succeeded"],
        ["orders", "\ud800", "v1", "succeeded"],
    ],
)
def test_unreadable(cells: list[str]) -> None:
    """Too few columns, no version, another status, a key that cannot be one: the line tells nothing."""
    assert outcome(cells) is None


@given(cells=st.lists(st.text()), schema=st.none() | st.text() | st.integers())
def test_any_line_is_read_or_refused(cells: list[str], schema: object) -> None:
    """Nothing raises, whatever a line and a schema hold."""
    found = outcome(cells, columns_of(schema))
    assert found is None or found.says in {"completed", "failed", "untried"}


def test_words_can_be_stored() -> None:
    """A message that is no UTF-8 is still a reason, without what cannot be written."""
    assert line("failed", "Odd", "500", "no \udcff") == Outcome(*VERSION, "untried", "Odd: no ?")


@given(key=KEYS)
def test_any_key_comes_back(key: str) -> None:
    """A key that was URL-encoded with plus for space is read as it was."""
    found = line("succeeded", key=quote_plus(key, safe="/"))
    assert found is not None
    assert found.key == key


@given(key=KEYS)
def test_manifest_and_report_agree(key: str) -> None:
    """A report that repeats a manifest's key as it stood there names the same version."""
    cells = manifest_line("orders", key, "v1").decode().rstrip("\n").split(",")
    assert outcome([*cells, "succeeded"]) == Outcome("orders", key, "v1", "completed")


def test_columns_in_another_order() -> None:
    """The report's own schema says which column is which; one that will not do is not followed."""
    columns = columns_of("Key, Bucket, TaskStatus, VersionId, ErrorCode")
    assert outcome(["a", "orders", "failed", "v1", "DstBucketNotFound"], columns) == Outcome(
        *VERSION, "failed", "DstBucketNotFound"
    )
    assert columns_of("Key, Bucket") == columns_of(None) == columns_of(7) == COLUMNS
