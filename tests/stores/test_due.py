"""What is taken of all that is due, whichever store has it."""

from __future__ import annotations

from itertools import count

from crr_monitor.stores.base import LOOKED, Due, take_due
from tests.factories import AT, SOURCE, record_of, user_write

ENDLESS = record_of(user_write(SOURCE))


def test_no_more_is_read_than_needed() -> None:
    """Without shares only what is given is read; with them so many times the limit, however much one bucket has."""
    numbers = count()
    walk = (Due(ENDLESS, 0, AT + number) for number in numbers)
    assert len(take_due(walk, 3, None)) == 3
    assert next(numbers) == 3
    assert [due.due_at for due in take_due(walk, 7, 2)] == [AT + 4, AT + 5]
    assert next(numbers) == 4 + 7 * LOOKED
