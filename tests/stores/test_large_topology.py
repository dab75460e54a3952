"""A topology that is too large for one item of DynamoDB: in pieces, and whole at every moment."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")

from crr_monitor.stores import dynamodb_monitor
from crr_monitor.stores.base import StoreError
from crr_monitor.stores.dynamodb_calls import ConditionFailedError
from crr_monitor.stores.dynamodb_monitor import LEFT_MS, PIECE_BYTES, Monitor
from crr_monitor.stores.dynamodb_tables import EXPIRES_AT, KIND, key_of
from crr_monitor.stores.memory import MemoryStore
from tests.factories import config, rule
from tests.stores.contract import KilledError, _killer
from tests.stores.dynamodb_server import DynamoBackend, Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crr_monitor.core.topology import BucketConfig

ITEM_BYTES = 400 * 1024
MANY = [(config(rule(f"copy-{number}"), bucket=f"bucket-{number}"), False) for number in range(40)]
MORE = [(config(rule("elsewhere"), bucket="one-more"), False)]


@pytest.fixture
def backend(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamoBackend]:
    """Two new tables, whose items hold little of a topology."""
    monkeypatch.setattr(dynamodb_monitor, "PIECE_BYTES", 100)
    with closing(DynamoBackend(server)) as backend:
        yield backend


def pieces(backend: DynamoBackend, *, leaving: bool) -> list[dict[str, Any]]:
    """The pieces in the table that stay, or that are to be removed some time."""
    found = [item for item in backend._scan(backend.statistics) if item[KIND]["S"] == "topology"]
    return [item for item in found if (EXPIRES_AT in item) is leaving]


def places(backend: DynamoBackend, news: Sequence[tuple[BucketConfig, bool]]) -> None:
    """What every store that is opened anew has to know once it was told this."""
    wanted = MemoryStore(clock=lambda: backend.now).learn(news)
    assert backend.open().topology() == wanted


def test_in_pieces(backend: DynamoBackend) -> None:
    """What does not fit into an item is in several, and read as one; what it replaces goes a day later."""
    store = backend.open()
    assert store.learn(MANY) == store.topology()
    places(backend, MANY)
    first = len(pieces(backend, leaving=False))
    assert first > 3
    store.learn(MORE)
    places(backend, [*MANY, *MORE])
    assert len(pieces(backend, leaving=True)) == first
    backend.now += LEFT_MS
    backend.delete_old_statistics()
    assert pieces(backend, leaving=True) == []
    assert backend.open().topology() == store.topology()


def test_small_again(backend: DynamoBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits is in one item, also where it was in pieces before."""
    backend.open().learn(MANY)
    monkeypatch.setattr(dynamodb_monitor, "PIECE_BYTES", PIECE_BYTES)
    backend.open().learn(MORE)
    assert pieces(backend, leaving=False) == []
    places(backend, [*MANY, *MORE])


def test_killed(backend: DynamoBackend) -> None:
    """Whoever is killed while writing it leaves what was known; done again, all is known."""
    backend.open().learn(MANY)
    store = backend.open()
    before = store.topology()
    for number in count():
        store._monitor._step = _killer(number)
        try:
            store.learn(MORE)
        except KilledError:
            assert backend.open().topology() == before
        else:
            break
    assert number > 3
    places(backend, [*MANY, *MORE])


def test_known_before(backend: DynamoBackend) -> None:
    """Whoever learns what is known, as set-up does each hour, writes nothing."""
    store = backend.open()
    topology = store.learn(MANY)
    steps: list[str] = []
    store._monitor._step = steps.append
    assert store.learn(MANY) == topology
    assert steps == []
    store.learn(MORE)
    assert len(steps) > 3


def test_two_at_once(backend: DynamoBackend) -> None:
    """Of two that learn at the same moment neither is forgotten, and pieces of the one that came too late go."""
    store, other = backend.open(), backend.open()
    others = iter([MANY])

    def step(name: str) -> None:
        if name == "topology":
            for news in others:
                other.learn(news)

    store._monitor._step = step
    store.learn([*MANY[:20], *MORE])
    assert {each.bucket for each in backend.open().topology().configs} == {each.bucket for each, _ in [*MANY, *MORE]}
    backend.now += LEFT_MS
    backend.delete_old_statistics()
    assert backend.open().topology() == store.topology()


def test_an_answer_gets_lost(backend: DynamoBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the SDK asks again as an answer was lost, and is told that it is done, what was written stays."""
    put = Monitor._put_topology

    def done_before(self: Monitor, edition: int, body: bytes, names: Sequence[str]) -> None:
        put(self, edition, body, names)
        raise ConditionFailedError

    monkeypatch.setattr(Monitor, "_put_topology", done_before)
    store = backend.open()
    store.learn(MANY)
    assert pieces(backend, leaving=True) == []
    places(backend, MANY)


def test_a_piece_is_gone(backend: DynamoBackend) -> None:
    """A topology that is not whole is an error, and never taken for a smaller one."""
    backend.open().learn(MANY)
    piece = pieces(backend, leaving=False)[1]
    backend.server.client.delete_item(TableName=backend.statistics, Key=key_of("topology", piece["name"]["S"]))
    with pytest.raises(StoreError, match=r"piece 1-[0-9a-f]+-\d+ of the topology is not there any more: try again"):
        backend.open().topology()


def test_pieces_fit() -> None:
    """A piece leaves room for its names, and for those of some hundred pieces beside the edition."""
    assert PIECE_BYTES < ITEM_BYTES - 40_000
