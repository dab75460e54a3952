"""What is counted agrees with the store, the templates, and what was measured."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from crr_monitor import templates
from crr_monitor.aws.parameters import declared
from crr_monitor.core.topology import Topology
from crr_monitor.cost import canary
from crr_monitor.cost.calls import (
    AGENT_ALARMS,
    ARCHIVE_ALARMS,
    BATCH,
    CANARY_METRICS,
    HUB_ALARMS,
    LOOKS,
    MARK_DAYS,
    MEMORY_GB,
    MODES,
    ORIGINAL_CALLS,
    ORIGINAL_SPLIT,
    PAIR_METRICS,
    RECORD_DAYS,
    SOURCE_METRICS,
    SOURCES,
    TOTAL_METRICS,
    Volume,
    VolumeError,
    status_writes,
)
from crr_monitor.sinks import metrics
from crr_monitor.stores.base import Retention
from crr_monitor.stores.dynamodb import DynamoStore
from crr_monitor.stores.dynamodb_tables import KEY, OPEN_IN, SORT_AT, VERSION_ID
from tests.factories import AUDIT, ONE_WAY, TWO_DESTINATIONS, batch_of, config, replica, rule, user_write

THIRD = "orders-third"
THREE_DESTINATIONS = Topology([config(rule(), rule(AUDIT), rule(THIRD))])
COPIES = (replica(), replica(AUDIT), replica(THIRD))
TOPOLOGIES = {1: ONE_WAY, 2: TWO_DESTINATIONS, 3: THREE_DESTINATIONS}


class CountingTable:
    """A status table that understands the store's updates, and counts them and what they write to the index."""

    def __init__(self) -> None:
        self.updates = 0
        self.index = 0
        self._items: dict[tuple[str, str], dict[str, Any]] = {}

    def update_item(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - DynamoDB's own JSON
        """Apply ``SET``, ``REMOVE`` and ``ADD``; the store's conditions hold where nothing comes twice."""
        names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
        place = (request["Key"][KEY]["S"], request["Key"][VERSION_ID]["S"])
        before = self._items.get(place, {})
        item = {**before, **request["Key"]}
        for word, text in re.findall(r"(SET|REMOVE|ADD) (.*?)(?= REMOVE | ADD |$)", request["UpdateExpression"]):
            for part in re.split(r", (?=#)", text):
                if word == "REMOVE":
                    item.pop(names[part], None)
                    continue
                name, value = re.fullmatch(r"(#\d+)(?: = | )(.*)", part).groups()  # type: ignore[union-attr]
                if word == "ADD":
                    item[names[name]] = {"N": str(int(item.get(names[name], {"N": "0"})["N"]) + 1)}
                elif value.startswith("if_not_exists"):
                    item.setdefault(names[name], values[":now"])
                else:
                    item[names[name]] = values[value]
        self.updates += 1
        entries = [(image[OPEN_IN]["S"], image[SORT_AT]["N"]) for image in (before, item) if OPEN_IN in image]
        self.index += len(set(entries))
        self._items[place] = item
        return {"Attributes": before} if before else {}

    def close(self) -> None:
        """Nothing to release."""


def counted(destinations: int, apart: int) -> tuple[Decimal, Decimal]:
    """Updates and index writes of the store for one object, of whose copies so many come in batches of their own."""
    pytest.importorskip("botocore")
    table = CountingTable()
    store = DynamoStore(table, "status", "statistics")  # type: ignore[arg-type] # of the client only what is called
    topology, together = TOPOLOGIES[destinations], COPIES[: destinations - apart]
    store.apply(batch_of(user_write(), *together, topology=topology))
    for copy in COPIES[destinations - apart : destinations]:
        store.apply(batch_of(copy, topology=topology))
    return Decimal(table.updates), Decimal(table.index)


@pytest.mark.parametrize("destinations", [1, 2, 3])
@pytest.mark.parametrize("same_batch", [0, 1])
def test_writes_are_those_of_the_store(destinations: int, same_batch: int) -> None:
    """With all copies in their source's batch, and with all apart, the store writes what is counted."""
    expected = status_writes(destinations, Decimal(same_batch))
    assert counted(destinations, 0 if same_batch else destinations) == (expected.updates, expected.index)


def test_writes_of_one_destination() -> None:
    """With one destination it is 1 update with its source, 2 and 2 index writes apart, and the mean in between."""
    assert [status_writes(1, Decimal(share)).updates for share in ("1", "0", "0.75")] == [1, 2, Decimal("1.25")]
    assert [status_writes(1, Decimal(share)).index for share in ("1", "0", "0.75")] == [0, 2, Decimal("0.5")]


def test_writes_of_some_copies_apart() -> None:
    """With three destinations and two copies apart the store needs 4 updates and 4 index writes: two for each."""
    assert counted(3, 2) == (Decimal(4), Decimal(4))


def test_original_calls_are_those_measured() -> None:
    """The assumed split of the original's calls sums up to what was measured."""
    assert sum(ORIGINAL_SPLIT.values()) == ORIGINAL_CALLS


def test_templates_have_as_many_alarms() -> None:
    """The alarms that are counted are those of the templates."""
    pattern = re.compile(r"^    Type: AWS::CloudWatch::Alarm$", re.MULTILINE)
    found = [len(pattern.findall(templates.text(name))) for name in (templates.HUB, templates.AGENT)]
    assert found == [HUB_ALARMS + ARCHIVE_ALARMS + canary.ALARMS, AGENT_ALARMS]


def test_metrics_are_those_that_are_published() -> None:
    """The metrics that are counted are those declared: of a pair, of a source bucket, and of all together."""
    found = [each for each in vars(metrics).values() if isinstance(each, metrics.Metric) and each.name]
    pairs = sum(len(each.per_pair) for each in found) - len(metrics.CANARY_LAG.per_pair)
    sources = sum((metrics.SOURCE_BUCKET,) in each.totals for each in found)
    totals = sum(metrics.TOTAL in each.totals for each in found)
    others = {name for each in found for names in each.totals for name in names} - {metrics.SOURCE_BUCKET}
    assert (pairs, sources, totals) == (PAIR_METRICS, SOURCE_METRICS, TOTAL_METRICS)
    assert len(metrics.CANARY_LAG.per_pair) == CANARY_METRICS
    assert others == {metrics.KIND, metrics.ACCOUNT}


def test_schedules_are_those_of_the_template() -> None:
    """The functions that watch and that ask S3 run every five minutes unless somebody says otherwise."""
    found = declared(templates.text(templates.HUB))
    assert (found["ReconcileSchedule"].default, found["WatchInterval"].default) == ("rate(5 minutes)",) * 2
    assert LOOKS == 30 * 24 * 60 // 5


def test_template_has_these_sources_modes_and_sizes() -> None:
    """Sources, modes, batch size and memory are those of the hub's template."""
    hub = templates.text(templates.HUB)
    assert f"AllowedValues: [{', '.join(SOURCES)}]" in hub
    assert f"AllowedValues: [{', '.join(MODES)}]" in hub
    sizes = re.findall(r"BatchSize: (\d+)", hub.replace("BatchSize: 1000", ""))  # that of set-up's changes
    assert set(sizes) == {str(BATCH)}
    assert set(re.findall(r"MemorySize: (\d+)", hub)) == {str(MEMORY_GB * 1024 // 1)}


def test_retention_is_that_of_the_store() -> None:
    """Records are kept for a day, and a day more until they are removed; marks as long as statistics."""
    day = 86_400_000
    assert (Retention().settled, Retention().statistics) == ((RECORD_DAYS - 1) * day, MARK_DAYS * day)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects_per_day": -1}, "objects_per_day is -1: allowed is a whole number from 0 to 1,000,000,000,000"),
        ({"destinations": 0}, "destinations is 0: allowed is a whole number from 1 to 1,000"),
        (
            {"cross_account_share": Decimal(2), "accounts": 2},
            "cross_account_share is 2: allowed is a share from 0 to 1",
        ),
        ({"same_batch_share": Decimal(-1)}, "same_batch_share is -1: allowed is a share from 0 to 1"),
        ({"destinations": 2}, "pairs is 1: objects with 2 destinations make as many pairs at least"),
        (
            {"cross_account_share": Decimal(1)},
            "accounts is 1: where events come from other accounts, there are 2 at least",
        ),
    ],
)
def test_wrong_volume(change: dict[str, Any], message: str) -> None:
    """A figure that makes no sense is an error that names it, its value and what is allowed."""
    with pytest.raises(VolumeError) as caught:
        Volume(**{"objects_per_day": 1, **change})
    assert str(caught.value) == message
