"""Cells are sums of what records contribute, so a contribution can be taken back without a trace."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.lag import bin_of
from crr_monitor.core.merge import merge
from crr_monitor.core.statistics import SLOT_MS, Cell, CellKey, Share, move, shares
from crr_monitor.core.status import derive
from tests.core.generated import evidence
from tests.factories import (
    AT,
    AUDIT,
    BY_TAG,
    REPLICA,
    SOURCE,
    TWO_DESTINATIONS,
    answered,
    deleted,
    denied_write,
    failed,
    record_of,
    replica,
    user_write,
)

if TYPE_CHECKING:
    from crr_monitor.core.evidence import Evidence

SLOT = AT // SLOT_MS
TO_REPLICA = CellKey(SLOT, SOURCE, REPLICA, f"to-{REPLICA}", delete_marker=False)


def cell_of(*events: object) -> Cell:
    """The one cell in which a version counts."""
    cells: dict[CellKey, Cell] = {}
    move(cells, [], shares(record_of(user_write(size=7), *events)))  # type: ignore[arg-type]
    assert list(cells) == [TO_REPLICA]
    return cells[TO_REPLICA]


@given(st.lists(evidence, min_size=1, max_size=8))
def test_taking_back_leaves_no_trace(parts: list[Evidence]) -> None:
    """While evidence comes piece by piece, the cells hold exactly what the record contributes now."""
    cells: dict[CellKey, Cell] = {}
    known: list[Share] = []
    for count in range(1, len(parts) + 1):
        new = shares(derive(reduce(merge, parts[:count])))
        move(cells, known, new)
        known = new
        fresh: dict[CellKey, Cell] = {}
        move(fresh, [], new)
        assert {key: cell for key, cell in cells.items() if not cell.empty} == fresh
    move(cells, known, [])
    assert all(cell.empty for cell in cells.values())


@given(st.lists(evidence, min_size=1, max_size=6), st.lists(evidence, min_size=1, max_size=6))
def test_cells_add_up(ones: list[Evidence], others: list[Evidence]) -> None:
    """Cells added together are the cells of all records counted together."""
    whole, half, other = Cell(), Cell(), Cell()
    for parts, cell in ((ones, half), (others, other)):
        for share in shares(derive(reduce(merge, parts))):
            cell.count(share)
            whole.count(share)
    half.add(other)
    assert half == whole


def test_completed() -> None:
    """A completed copy counts with its size and its lag."""
    assert cell_of(replica()) == Cell(objects=1, bytes=7, completed=1, lags={bin_of(10_000): 1})


def test_completed_without_a_time() -> None:
    """A copy known by a HEAD alone counts as completed with unknown lag."""
    head = answered("replica", REPLICA)
    assert cell_of(head) == Cell(objects=1, bytes=7, completed=1, unknown_lag=1)
    assert cell_of(head, failed()) == Cell(objects=1, bytes=7, completed=1, unknown_lag=1, repaired_untimed=1)


def test_repaired() -> None:
    """A copy that failed before it arrived counts among the repaired ones too."""
    bins = {bin_of(90_000): 1}
    assert cell_of(failed(), replica(at=AT + 90_000)) == Cell(objects=1, bytes=7, completed=1, lags=bins, repaired=bins)


def test_pending_and_settled_otherwise() -> None:
    """Pending copies count with their bytes, deleted and ineligible ones apart."""
    assert cell_of() == Cell(objects=1, bytes=7, pending=1, pending_bytes=7)
    assert cell_of(deleted()) == Cell(objects=1, bytes=7, source_deleted=1)
    assert cell_of(answered("not-eligible")) == Cell(objects=1, bytes=7, not_eligible=1)


def test_failures_by_reason() -> None:
    """Failures count by a short code: the words of a denied call name objects, and a HEAD tells no reason."""
    assert cell_of(failed()).reasons == {"DstKmsKeyNotFound": 1}
    assert cell_of(denied_write()).reasons == {"AccessDenied s3:ReplicateObject": 1}
    assert cell_of(answered("failed")).reasons == {"unknown": 1}


def test_expired() -> None:
    """A pending copy that leaves stays counted as an object, and as expired instead of pending."""
    cell = cell_of()
    cell.expire(shares(record_of(user_write(size=7)))[0])
    assert cell == Cell(objects=1, bytes=7, expired=1)


def test_what_counts() -> None:
    """Each destination has its share, in the slot of the write; what is uncertain or hidden has none."""
    both = shares(record_of(user_write(at=AT + SLOT_MS - 1), replica(AUDIT), topology=TWO_DESTINATIONS))
    assert [(share.key.destination, share.key.slot) for share in both] == [(AUDIT, SLOT), (REPLICA, SLOT)]
    assert shares(record_of(user_write(), topology=BY_TAG)) == []
    assert [share.key.slot for share in shares(record_of(replica(at=AT + SLOT_MS)))] == [SLOT + 1]
