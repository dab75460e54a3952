"""``crr-monitor topology``: learned pairs, inferred pairs, learning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from crr_monitor.core.topology import Topology
from tests.cli.running import FAILED, OK, asked, call, fill, objects, rows, run
from tests.factories import AT, AUDIT, INFERRED, REPLICA, SOURCE, config, replica, rule, user_write

if TYPE_CHECKING:
    from pathlib import Path

PLACED = Topology(
    [
        config(
            rule(prefix="2026/", tags=(("class", "gold"),), priority=3, delete_markers=True, kms=True),
            rule(AUDIT, enabled=False),
            account="111122223333",
            region="us-east-1",
            since=AT,
        ),
        config(bucket=REPLICA, account="444455556666", region="eu-west-1"),
    ]
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "a.db"


def test_learned_pairs(store: Path) -> None:
    """Every rule is a pair with its places, state, filter, priority and beginning; unknown places are absent."""
    source = {"account": "111122223333", "region": "us-east-1", "bucket": SOURCE}
    assert objects(fill(store, topology=PLACED), "topology") == [
        {
            "source": source,
            "destination": {"account": "444455556666", "region": "eu-west-1", "bucket": REPLICA},
            "rule_id": "to-orders-dr",
            "inferred": False,
            "state": "enabled",
            "priority": 3,
            "prefix": "2026/",
            "tags": {"class": "gold"},
            "delete_markers": True,
            "kms": True,
            "since": "2026-11-22T07:00:00.000Z",
        },
        {
            "source": source,
            "destination": {"bucket": AUDIT},
            "rule_id": "to-orders-audit",
            "inferred": False,
            "state": "disabled",
            "priority": 0,
            "prefix": "",
            "tags": {},
            "delete_markers": False,
            "kms": False,
            "since": "2026-11-22T07:00:00.000Z",
        },
    ]


def test_inferred_pairs(store: Path) -> None:
    """A pair that only showed itself in the events is marked as inferred, with what is known of it."""
    fill(store, user_write(), replica(), topology=INFERRED)
    assert objects(store, "topology") == [
        {"source": {"bucket": SOURCE}, "destination": {"bucket": REPLICA}, "inferred": True}
    ]
    assert asked(store, "topology").splitlines()[1].split() == [SOURCE, "-", REPLICA, "-", "-", "inferred", *"----"]


def test_learned_and_inferred_pairs(store: Path) -> None:
    """A pair of the statistics is inferred only where no rule covers it."""
    fill(store, user_write(), replica(), replica(AUDIT))
    found = [(entry["destination"]["bucket"], entry["inferred"]) for entry in objects(store, "topology")]
    assert found == [(REPLICA, False), (AUDIT, True)]


def test_forms(store: Path) -> None:
    """JSON is an array of the pairs, CSV flat rows with tags as JSON, and the table has a line for each."""
    fill(store, topology=PLACED)
    assert json.loads(asked(store, "topology", "-o", "json")) == objects(store, "topology")
    row = rows(store, "topology")[0]
    assert (row["source_account"], row["destination_region"], row["state"]) == ("111122223333", "eu-west-1", "enabled")
    assert (row["tags"], row["delete_markers"], row["inferred"]) == ('{"class":"gold"}', "true", "false")
    lines = asked(store, "topology").splitlines()
    assert lines[1].split()[:8] == [SOURCE, "us-east-1", REPLICA, "eu-west-1", "to-orders-dr", "enabled", "3", "2026/*"]
    assert lines[1].endswith("2026/* class=gold  yes      2026-11-22 07:00:00")
    assert lines[2].split()[5:] == ["disabled", "0", "all", "no", "2026-11-22", "07:00:00"]


def test_rule_that_always_counts(store: Path) -> None:
    """A rule without a beginning has no ``since`` in JSON, and "always" in the table."""
    fill(store)
    assert "since" not in objects(store, "topology")[0]
    assert asked(store, "topology").splitlines()[1].split()[-1] == "always"


def test_nothing_known(store: Path) -> None:
    """A store without pairs gives an empty listing and a hint."""
    result = call(fill(store, topology=INFERRED), "topology", "-o", "json")
    assert (result.exit_code, result.stdout) == (OK, "[]\n")
    assert result.stderr == "no replication pair is known yet: ingest events, or learn a topology (--learn FILE)\n"


def test_learning_a_file(store: Path, tmp_path: Path) -> None:
    """``--learn`` keeps the rules of a file, makes the store where there is none, and lists them."""
    target = {"Bucket": f"arn:aws:s3:::{REPLICA}"}
    rules = {"Rules": [{"ID": "dr", "Status": "Enabled", "Filter": {}, "Destination": target}]}
    path = tmp_path / "topology.json"
    path.write_text(
        json.dumps([{"bucket": SOURCE, "ReplicationConfiguration": rules, "since": "2026-11-22T07:00:00Z"}])
    )
    learned = objects(store, "topology", "--learn", str(path))
    assert [(entry["rule_id"], entry["since"]) for entry in learned] == [("dr", "2026-11-22T07:00:00.000Z")]
    assert objects(store, "topology") == learned


def test_learning_a_broken_file(store: Path, tmp_path: Path) -> None:
    """A file that is no topology is refused with its name, and no store is made."""
    path = tmp_path / "topology.json"
    path.write_text("[1]")
    done = run("--store", str(store), "topology", "--learn", str(path))
    line = f"crr-monitor: topology {path}: entry 1 is a number, not an object with a bucket\n"
    assert (done.returncode, done.stderr) == (FAILED, line)
    assert not store.exists()
