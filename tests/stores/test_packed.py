"""Evidence that travels and is stored as bytes is the same evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given

from crr_monitor.core.interpret import interpret
from crr_monitor.core.topology import Topology
from crr_monitor.stores.base import Batch
from crr_monitor.stores.packed import PackedEvidence, pack, unpack
from crr_monitor.stores.sqlite import SqliteStore
from tests.core.generated import evidence
from tests.factories import replica, user_write
from tests.stores.contract import everything

if TYPE_CHECKING:
    from pathlib import Path

    from crr_monitor.core.evidence import Evidence


@given(evidence)
def test_unpacking_gives_what_was_packed(told: Evidence) -> None:
    """What is packed is unpacked as the same evidence, whatever it says."""
    assert unpack(told.key, told.version_id, pack(told)) == told


def test_a_store_keeps_the_same_of_packed_evidence(tmp_path: Path) -> None:
    """Packed evidence, new to the store or not, leaves the same records and statistics as the evidence itself."""
    plain = SqliteStore(tmp_path / "plain.db", clock=lambda: 1)
    packed = SqliteStore(tmp_path / "packed.db", clock=lambda: 1)
    for event in (user_write(), replica()):
        told = interpret(event, Topology())
        assert told is not None
        version = (told.key, told.version_id)
        changed = plain.apply(Batch({version: told}))
        assert packed.apply(Batch(PackedEvidence({version: pack(told)}))) == changed
    assert everything(packed) == everything(plain)
    plain.close()
    packed.close()
