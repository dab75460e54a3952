"""Completion reports as evidence: what they change in the store, and what they leave alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from crr_monitor.core.batch_report import Outcome
from crr_monitor.core.model import Status
from crr_monitor.process import batch_report
from crr_monitor.process.batch_report import Taken, take_report
from crr_monitor.stores.memory import MemoryStore
from tests.factories import (
    AT,
    AUDIT,
    KEY,
    ONE_WAY,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    VERSION,
    answered,
    batch_of,
    denied_write,
    failed,
    replica,
    user_write,
)

if TYPE_CHECKING:
    import pytest

    from crr_monitor.core.events import Event
    from crr_monitor.core.model import Copy
    from crr_monitor.core.topology import Topology
    from crr_monitor.stores.base import Store

WRITTEN_AT = AT + 7_200_000
"""When the report was written: two hours after the version."""


def store_of(*events: Event, topology: Topology = ONE_WAY) -> Store:
    """A store that has seen some events."""
    store = MemoryStore()
    store.apply(batch_of(*events, topology=topology))
    return store


def said(says: Any, reason: str | None = None, key: str = KEY, version_id: str = VERSION) -> Outcome:  # noqa: ANN401
    """A line about the ordinary version."""
    return Outcome(SOURCE, key, version_id, says, reason)


def take(store: Store, *lines: Outcome | None, topology: Topology = ONE_WAY) -> Taken:
    """A report with these lines, taken in."""
    taken = Taken()
    take_report(store, lines, WRITTEN_AT, topology, taken)
    return taken


def copies(store: Store) -> dict[str | None, Copy]:
    """The copies of the ordinary version."""
    (record,) = store.versions(SOURCE, KEY, VERSION)
    return {copy.bucket: copy for copy in record.copies}


def test_succeeded_is_completed() -> None:
    """The copy is completed by the report, without a time that nobody told, and known to have been repaired."""
    store = store_of(user_write(), failed())
    assert take(store, said("completed")) == Taken(completed=1, records_changed=1)
    copy = copies(store)[REPLICA]
    assert (copy.status, copy.evidence, copy.replicated_at, copy.lag_ms) == (
        Status.COMPLETED,
        "batch-report",
        None,
        None,
    )
    assert copy.repaired


def test_failed_again_has_the_new_reason() -> None:
    """The failure of the report is later than that of the event, so its reason is the one to mend now."""
    store = store_of(user_write(), failed(reason="DstPutObjectNotPermitted"))
    taken = take(store, said("failed", "DstKmsKeyInvalidState"))
    assert taken == Taken(failed=Counter({"DstKmsKeyInvalidState": 1}), records_changed=1)
    copy = copies(store)[REPLICA]
    assert (copy.status, copy.failure_reason) == (Status.FAILED, "DstKmsKeyInvalidState")
    assert (copy.failed_at, copy.evidence) == (WRITTEN_AT, "batch-report")


def test_failed_tells_why_where_head_did_not() -> None:
    """HEAD knew no reason; the report does. A denied call's words give way to it as well."""
    for before in (answered("failed"), denied_write()):
        store = store_of(user_write(), before)
        take(store, said("failed", "DstBucketUnversioned"))
        assert copies(store)[REPLICA].failure_reason == "DstBucketUnversioned"


def test_only_open_copies_fail() -> None:
    """Of two copies the one that arrived has not failed, and was not repaired."""
    store = store_of(user_write(), replica(), failed(AUDIT), topology=TWO_DESTINATIONS)
    take(store, said("failed", "DstBucketNotFound"), topology=TWO_DESTINATIONS)
    found = copies(store)
    assert (found[AUDIT].status, found[AUDIT].failure_reason) == (Status.FAILED, "DstBucketNotFound")
    arrived = found[REPLICA]
    assert (arrived.status, arrived.failure_reason, arrived.repaired) == (Status.COMPLETED, None, False)


def test_untried_and_unreadable_change_nothing() -> None:
    """What the job did not try, and lines that cannot be read, are counted and are no evidence."""
    store = store_of(user_write(), failed())
    before = copies(store)
    taken = take(store, None, said("untried", "SlowDown"), None)
    assert taken == Taken(untried=Counter({"SlowDown": 1}), unreadable=2)
    assert copies(store) == before


def test_race_is_no_failure() -> None:
    """A pending version that was deleted before its turn is told as deleted at the source."""
    store = store_of(user_write())
    take(store, said("failed", "SrcVersionNotFound"))
    assert copies(store)[REPLICA].status is Status.SOURCE_DELETED


def test_no_rule_takes_it() -> None:
    """What S3 finds not eligible is no failure either."""
    store = store_of(user_write())
    take(store, said("failed", "SrcObjectNotEligible"))
    assert copies(store)[REPLICA].status is Status.NOT_ELIGIBLE


def test_unknown_version_is_learned() -> None:
    """A report may tell of versions whose events never came."""
    store = MemoryStore()
    take(store, said("failed", "DstBucketNotFound"))
    (record,) = store.versions(SOURCE, KEY, VERSION)
    assert (record.status, record.source_bucket) == (Status.FAILED, SOURCE)


def test_completed_elsewhere_is_left_alone() -> None:
    """Where all copies arrived, a failure of the report can be none of theirs."""
    store = store_of(user_write(), replica())
    assert take(store, said("failed", "DstBucketNotFound")).records_changed == 0


def test_again_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same report, taken a second time and in other portions, leaves the store as it is."""
    lines = [said("completed", key=f"a{number}") for number in range(5)]
    lines += [said("failed", "DstBucketNotFound", key=f"b{number}") for number in range(5)]
    store = store_of(*(user_write(key=line.key) for line in lines))
    assert take(store, *lines).records_changed == 10
    monkeypatch.setattr(batch_report, "BATCH", 3)
    assert take(store, *lines).records_changed == 0
