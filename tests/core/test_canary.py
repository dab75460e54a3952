"""Canaries: which object is written for a pair, and what is concluded from its record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core import archive
from crr_monitor.core.canary import LONGEST_MS, Canary, arrivals, is_over, plan
from crr_monitor.core.canary_keys import FOLDER, canary_key, is_canary
from crr_monitor.core.reconcile import Place
from crr_monitor.core.statistics import shares
from crr_monitor.core.topology import BucketConfig, Rule, Topology
from tests.factories import AT, AUDIT, ONE_WAY, REPLICA, SOURCE, config, failed, record_of, replica, rule, user_write

KEY = FOLDER + "abc"
ORDERS = Place(SOURCE, "111122223333", "us-east-1")
FAR = BucketConfig(REPLICA, "444455556666", "eu-west-1", place_only=True)


def topology(*rules: Rule, since: int = 0) -> Topology:
    """``orders`` with rules, and the place of one destination."""
    return Topology([config(*rules, account=ORDERS.account, region=ORDERS.region, since=since), FAR])


def refusals(known: Topology, *pairs: str) -> list[str]:
    """Why pairs get no canary; none of them does."""
    canaries, problems = plan(known, pairs, "abc", AT)
    assert canaries == []
    return problems


def test_pair() -> None:
    """A rule without a prefix takes the canary below the reserved prefix itself; places come from the topology."""
    far = Place(REPLICA, "444455556666", "eu-west-1")
    wanted = Canary(ORDERS, KEY, (far,), (REPLICA,))
    assert plan(topology(rule()), [f"{SOURCE}:{REPLICA}"], "abc", AT) == ([wanted], [])
    assert plan(topology(rule()), [SOURCE, f" {SOURCE}:{REPLICA} ", ""], "abc", AT) == ([wanted], [])


@pytest.mark.parametrize(
    ("prefix", "key"), [("data/", f"data/{KEY}"), ("data", f"data/{KEY}"), ("a/b", f"a/b/{KEY}"), ("", KEY)]
)
def test_prefix(prefix: str, key: str) -> None:
    """Behind a rule's prefix, with a slash between."""
    (found,), _ = plan(topology(rule(prefix=prefix)), [SOURCE], "abc", AT)
    assert found.key == key


def test_several_destinations() -> None:
    """One object serves all destinations that take it; where only some were asked for, the others are cleaned too."""
    known = topology(rule(), rule(AUDIT), rule("third", prefix="x/"))
    both, problems = plan(known, [SOURCE], "abc", AT)
    assert problems == []
    assert [(each.key, [p.bucket for p in each.destinations], each.asked) for each in both] == [
        (KEY, [AUDIT, REPLICA], (AUDIT, REPLICA)),
        (f"x/{KEY}", [AUDIT, REPLICA, "third"], ("third",)),
    ]
    (one,), _ = plan(known, [f"{SOURCE}:{AUDIT}"], "abc", AT)
    assert ([each.bucket for each in one.destinations], one.asked) == ([AUDIT, REPLICA], (AUDIT,))


def test_refused() -> None:
    """What is wrong is said with the pair: no rule, no such destination, tags, a rule that does not count yet."""
    assert refusals(topology(rule()), "logs") == [
        "canary logs: no enabled replication rule of this bucket is known: `crr-monitor topology` lists all"
    ]
    assert refusals(topology(rule(enabled=False)), SOURCE)[0].startswith("canary orders: no enabled")
    assert refusals(topology(rule()), f"{SOURCE}:elsewhere") == [
        "canary orders:elsewhere: no enabled rule of orders replicates to elsewhere"
    ]
    by_tag = refusals(topology(rule(tags=(("class", "gold"),))), SOURCE)
    told = (
        "canary orders:orders-dr: no rule takes it (to-orders-dr), as they ask for tags or count only later: add a"
        " rule without tags for the prefix .crr-monitor/canary/, or leave this pair without a canary"
    )
    assert by_tag == [told]
    assert refusals(topology(rule(), since=AT + 1), SOURCE)[0].startswith("canary orders:orders-dr: no rule takes it")
    assert refusals(topology(rule()), "A:b") == [
        "canary A:b: write SOURCE or SOURCE:DESTINATION, the names of two buckets"
    ]


def test_a_rule_that_fits_is_found() -> None:
    """Of several rules towards one destination the first that surely takes the canary is used."""
    known = topology(rule(tags=(("class", "gold"),), priority=2), rule(prefix="data/", priority=1))
    (found,), problems = plan(known, [SOURCE], "abc", AT)
    assert (found.key, problems) == (f"data/{KEY}", [])


@given(prefix=st.text(max_size=40), name=st.text("0123456789abcdef", min_size=1))
def test_every_canary_is_known_as_one(prefix: str, name: str) -> None:
    """Whatever the rule's prefix, the key begins with it, and is that of a canary."""
    key = canary_key(prefix, name)
    assert key.startswith(prefix)
    assert is_canary(key)


@pytest.mark.parametrize("key", ["data/x", "x.crr-monitor/canary/abc", ".crr-monitor/x", ".crr-monitor/canary"])
def test_other_keys(key: str) -> None:
    """No other key is."""
    assert not is_canary(key)


def test_record_of_a_canary() -> None:
    """Its record is made like any other, but counts nowhere, waits for nobody and is not archived."""
    arrived = record_of(user_write(key=KEY), replica(key=KEY))
    broken = record_of(user_write(key=KEY), failed(key=KEY))
    pending = record_of(user_write(key=KEY))
    for record in (arrived, broken, pending):
        assert (shares(record), record.settled) == ([], True)
        assert archive.changed_rows(None, record, AT) == []
        assert archive.expired_rows(record, AT) == []
        assert list(archive.all_rows(record, AT, "open")) == []
    assert [each.status.name for each in (arrived, broken, pending)] == ["COMPLETED", "FAILED", "PENDING"]


def test_arrivals() -> None:
    """A copy that arrived tells its pair, when the canary was written, and its lag; only of pairs asked for."""
    canary = Canary(ORDERS, KEY, (Place(REPLICA),), (REPLICA,))
    arrived = record_of(user_write(key=KEY), replica(key=KEY))
    assert list(arrivals(canary, arrived)) == [("orders orders-dr", AT, 10_000)]
    assert list(arrivals(canary, record_of(user_write(key=KEY)))) == []
    assert list(arrivals(Canary(ORDERS, KEY, (Place(REPLICA),), (AUDIT,)), arrived)) == []
    assert list(arrivals(Canary(Place(REPLICA), KEY, (ORDERS,), (SOURCE,)), arrived)) == []
    assert list(arrivals(canary, record_of(replica(key=KEY)))) == []


def test_over() -> None:
    """A version may go when all its copies arrived, or after a day."""
    assert is_over(record_of(user_write(key=KEY), replica(key=KEY)), AT, AT)
    waiting = record_of(user_write(key=KEY), topology=ONE_WAY)
    assert not is_over(waiting, AT, AT + LONGEST_MS - 1)
    assert is_over(waiting, AT, AT + LONGEST_MS)
    assert not is_over(None, AT, AT)
    assert is_over(None, AT, AT + LONGEST_MS)
