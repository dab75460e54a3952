"""Which destinations a version may expect: the rules of AWS, one by one, and how a topology is learned."""

from __future__ import annotations

from typing import Any

import pytest

from crr_monitor.core.evidence import Taken
from crr_monitor.core.interpret import interpret
from crr_monitor.core.topology import BucketConfig, Topology
from crr_monitor.core.topology_document import TopologyError, parse_topology
from tests.factories import AT, AUDIT, INFERRED, ONE_WAY, REPLICA, SOURCE, config, replica, rule, user_write, written

Json = dict[str, Any]


def v1(**fields: object) -> Json:
    """A rule of the first form: ``Prefix`` stands on the rule."""
    return {
        "ID": "old",
        "Status": "Enabled",
        "Prefix": "",
        "Destination": {"Bucket": f"arn:aws:s3:::{REPLICA}"},
        **fields,
    }


def v2(**fields: object) -> Json:
    """A rule of the second form: it has a ``Filter``."""
    return {
        "ID": "new",
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {},
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{REPLICA}"},
        **fields,
    }


def to(bucket: str, **fields: object) -> Json:
    """A rule of the second form to another bucket."""
    return v2(Destination={"Bucket": f"arn:aws:s3:::{bucket}"}, ID=bucket, **fields)


def entry(*rules: Json, **fields: object) -> Json:
    """A source bucket of a topology file."""
    return {
        "bucket": SOURCE,
        "ReplicationConfiguration": {"Role": "arn:aws:iam::1:role/r", "Rules": list(rules)},
        **fields,
    }


def learned(*entries: Json, now: int = 0, before: Topology = INFERRED) -> Topology:
    """What a topology file teaches."""
    return before.learn(parse_topology(list(entries)), now)


def taken(*rules: Json, **write: Any) -> dict[str, Taken]:  # noqa: ANN401 - any field of the event
    """What each destination may expect of a write when these rules have always been in force."""
    event = user_write(**write)
    return {part.bucket: part.taken for part in learned(entry(*rules)).expected(event)}


YES, NO, UNCERTAIN = {REPLICA: Taken.YES}, {REPLICA: Taken.NO}, {REPLICA: Taken.UNCERTAIN}
NOTHING: dict[str, Taken] = {}
GOLD = {"Key": "class", "Value": "gold"}
MARKERS_ON, MARKERS_OFF = ({"DeleteMarkerReplication": {"Status": status}} for status in ("Enabled", "Disabled"))
KMS_ON = {"SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}}}


@pytest.mark.parametrize(
    ("one", "write", "expected"),
    [
        (v1(), {}, YES),
        (v1(Prefix="logs/"), {"key": "logs/a"}, YES),
        (v1(Prefix="logs/"), {"key": "Logs/a"}, NOTHING),
        (v1(Status="Disabled"), {}, NOTHING),
        (v1(), {"delete_marker": True}, YES),
        (v1(), {"delete_marker": True, "by_lifecycle": True}, NO),
        (v2(), {}, YES),
        (v2(Filter={"Prefix": "logs/"}), {"key": "logs/a"}, YES),
        (v2(Filter={"Prefix": "logs/"}), {"key": "log"}, NOTHING),
        (v2(Prefix="ignored", Filter={"Prefix": ""}), {}, YES),
        (v2(Filter={"Tag": GOLD}), {}, UNCERTAIN),
        (v2(Filter={"Tag": GOLD}), {"tags": {"class": "gold", "x": "y"}}, YES),
        (v2(Filter={"Tag": GOLD}), {"tags": {"class": "lead"}}, NO),
        (v2(Filter={"Tag": GOLD}), {"tags": {}}, NO),
        (v2(Filter={"And": {"Prefix": "logs/", "Tags": [GOLD]}}), {"key": "logs/a"}, UNCERTAIN),
        (v2(Filter={"And": {"Prefix": "logs/", "Tags": [GOLD]}}), {"key": "a", "tags": {"class": "gold"}}, NOTHING),
        (
            v2(Filter={"And": {"Tags": [GOLD, {"Key": "x", "Value": ""}]}}),
            {"tags": {"class": "gold", "x": ""}},
            YES,
        ),
        (v2(Filter={"And": {"Tags": [GOLD, {"Key": "x", "Value": "y"}]}}), {"tags": {"class": "gold"}}, NO),
        (v2(), {"delete_marker": True}, NOTHING),
        (v2(**MARKERS_ON), {"delete_marker": True}, YES),
        (v2(**MARKERS_ON), {"delete_marker": True, "by_lifecycle": True}, NO),
        (v2(Filter={"Tag": GOLD}, **MARKERS_ON), {"delete_marker": True}, NOTHING),
        (v2(), {"kms": True}, NO),
        (v2(**KMS_ON), {"kms": True}, YES),
        (v2(), {"kms": None}, YES),
        (v2(), {"storage_class": "GLACIER"}, NO),
        (v2(), {"storage_class": "DEEP_ARCHIVE"}, NO),
        (v2(), {"storage_class": "GLACIER_IR"}, YES),
        (v2(Filter={"Tag": GOLD}), {"kms": True}, NO),
    ],
)
def test_one_rule(one: Json, write: dict[str, Any], expected: dict[str, Taken]) -> None:
    """A single rule takes what AWS says that it takes."""
    assert taken(one, **write) == expected


PLAIN_LOW, TAGGED_HIGH = v2(ID="low", Priority=1), v2(ID="high", Priority=2, Filter={"Tag": GOLD})


@pytest.mark.parametrize(
    ("rules", "write", "expected", "rule_id"),
    [
        ([PLAIN_LOW, TAGGED_HIGH], {}, Taken.YES, None),
        ([PLAIN_LOW, TAGGED_HIGH], {"tags": {"class": "gold"}}, Taken.YES, "high"),
        ([PLAIN_LOW, TAGGED_HIGH], {"tags": {}}, Taken.YES, "low"),
        ([PLAIN_LOW, {**TAGGED_HIGH, **KMS_ON}], {"kms": True}, Taken.UNCERTAIN, None),
        ([PLAIN_LOW, {**TAGGED_HIGH, **KMS_ON}], {"kms": True, "tags": {"class": "gold"}}, Taken.YES, "high"),
        ([PLAIN_LOW, {**TAGGED_HIGH, **KMS_ON}], {"kms": True, "tags": {}}, Taken.NO, "low"),
        ([v2(ID="low", Priority=1, **MARKERS_ON), v2(ID="high", Priority=2)], {"delete_marker": True}, None, None),
        (
            [v2(ID="low", Priority=1), v2(ID="high", Priority=2, **MARKERS_ON)],
            {"delete_marker": True},
            Taken.YES,
            "high",
        ),
        ([v2(ID="off", Priority=9, Status="Disabled"), v2(ID="on")], {}, Taken.YES, "on"),
    ],
)
def test_priority(rules: list[Json], write: dict[str, Any], expected: Taken | None, rule_id: str | None) -> None:
    """Among rules of one destination the highest priority that matches decides, whatever the order in the file."""
    for order in (rules, rules[::-1]):
        found = learned(entry(*order)).expected(user_write(**write))
        assert [(part.taken, part.rule_id) for part in found] == ([] if expected is None else [(expected, rule_id)])


def test_several_destinations() -> None:
    """Priority does not compare rules of different destinations: each distinct bucket gets its copy."""
    both = (to("b", Priority=1), to("a", Priority=2), to("c", Priority=3, Filter={"Prefix": "other/"}))
    assert taken(*both) == {"a": Taken.YES, "b": Taken.YES}
    assert taken(*both, key="other/x") == dict.fromkeys("abc", Taken.YES)


def test_untaken_write_leaves_nothing() -> None:
    """A write that no enabled rule takes leaves no evidence, unless the service's mark says that it is a replica."""
    elsewhere = Topology([config(rule(prefix="other/"))])
    assert interpret(user_write(), elsewhere) is None
    assert interpret(written(), elsewhere) is None
    assert interpret(user_write("unheard-of"), ONE_WAY) is None
    assert interpret(user_write(REPLICA), ONE_WAY) is None
    assert interpret(written(REPLICA), elsewhere) is None
    assert interpret(replica("unheard-of"), ONE_WAY) is not None
    assert interpret(user_write(), INFERRED) is not None
    assert interpret(written(REPLICA, by_lifecycle=True, delete_marker=True), learned(entry(v1()))) is None


class TestSince:
    """From when a configuration counts."""

    AT_WRITE = user_write()

    def expectation(self, topology: Topology) -> dict[str, Taken]:
        """What the write at ``AT`` may expect."""
        return {part.bucket: part.taken for part in topology.expected(self.AT_WRITE)}

    @pytest.mark.parametrize(("since", "expected"), [(AT, Taken.YES), (AT + 1, Taken.EARLIER)])
    def test_first_configuration(self, since: int, expected: Taken) -> None:
        """A write is expected from the very millisecond at which its configuration begins."""
        assert self.expectation(learned(entry(v2()), now=since)) == {REPLICA: expected}
        assert self.expectation(learned(entry(v2(Filter={"Tag": GOLD})), now=since)) == {
            REPLICA: Taken.UNCERTAIN if since == AT else Taken.EARLIER
        }

    def test_facts_need_no_configuration_in_force(self) -> None:
        """What excludes a version excludes it whenever the rule began."""
        kms = user_write(kms=True)
        assert [part.taken for part in learned(entry(v2()), now=AT + 1).expected(kms)] == [Taken.NO]

    def test_configuration_in_force(self) -> None:
        """The configuration at the time of the write answers; later ones only say what they would take now."""
        history = learned(entry(to("b")), now=AT + 5, before=learned(entry(to("a")), now=AT - 5))
        assert self.expectation(history) == {"a": Taken.YES, "b": Taken.EARLIER}
        before_both = {part.bucket: part.taken for part in history.expected(user_write(at=AT - 6))}
        assert before_both == {"a": Taken.EARLIER, "b": Taken.EARLIER}
        after_both = {part.bucket: part.taken for part in history.expected(user_write(at=AT + 5))}
        assert after_both == {"b": Taken.YES}

    def test_rules_removed_for_a_while(self) -> None:
        """Between the end of a configuration and the beginning of the next one nothing is expected."""
        history = learned(entry(v2()), now=AT - 10)
        history = learned({"bucket": SOURCE, "ReplicationConfiguration": {"Rules": []}}, now=AT - 5, before=history)
        assert self.expectation(history) == {}
        history = learned(entry(v2()), now=AT + 5, before=history)
        assert self.expectation(history) == {REPLICA: Taken.EARLIER}
        assert [part.taken for part in history.expected(user_write(at=AT - 7))] == [Taken.YES]


class TestLearn:
    """How news change what is known."""

    def test_a_place_says_nothing_of_rules(self) -> None:
        """A later list that names a source only as the place of somebody's destination leaves its rules in force."""
        known = learned(entry(v2()), now=100)
        later = learned({"bucket": SOURCE, "region": "eu-west-3"}, now=200, before=known)
        assert [(one.rules, one.since, one.region) for one in later.configs] == [
            (known.configs[0].rules, 100, "eu-west-3")
        ]

    def test_unchanged_rules_keep_their_beginning(self) -> None:
        """The same file again teaches nothing."""
        known = learned(entry(v2()), now=100)
        assert learned(entry(v2()), now=200, before=known) == known

    def test_changed_rules_count_from_now(self) -> None:
        """Changed rules begin when they were learned, and the former ones stay in force until then."""
        known = learned(entry(v2(Priority=2)), now=200, before=learned(entry(v2()), now=100))
        assert [one.since for one in known.configs] == [100, 200]

    def test_since_is_honoured(self) -> None:
        """A configuration that states its own beginning has it, also if the same rules were learned before."""
        stated = entry(v2(), since="1970-01-01T00:00:00.050Z")
        assert [one.since for one in learned(stated, now=100).configs] == [50]
        later = learned(stated, now=200, before=learned(entry(v2()), now=100))
        assert [part.taken for part in later.expected(user_write(at=60))] == [Taken.YES]
        assert learned(stated, now=300, before=later).expected(user_write(at=49))[0].taken is Taken.EARLIER

    def test_history_in_one_file(self) -> None:
        """A file may tell the whole history of a bucket, and telling it again changes nothing."""
        history = (
            entry(to("a"), since="1970-01-01T00:00:00.010Z"),
            entry(to("b"), since="1970-01-01T00:00:00.020Z"),
        )
        once = learned(*history)
        again = learned(*history, before=once)
        assert sorted((one.since, one.rules) for one in again.configs) == sorted(
            (one.since, one.rules) for one in once.configs
        )
        assert [part.bucket for part in once.expected(user_write(at=15)) if part.taken is Taken.YES] == ["a"]

    def test_places(self) -> None:
        """A place that is told anew replaces what was known; what is not told stays."""
        known = learned({"bucket": REPLICA, "account": "1", "region": "r1"}, entry(v2()))
        assert known.place(REPLICA) == ("1", "r1")
        moved = learned({"bucket": REPLICA, "region": "r2"}, before=known)
        assert moved.place(REPLICA) == ("1", "r2")
        assert moved.expected(user_write())[0].region == "r2"

    def test_rules_keep_the_place(self) -> None:
        """Rules that come without a place leave the bucket where it was."""
        known = learned(entry(v2()), before=learned({"bucket": SOURCE, "account": "1", "region": "r"}))
        assert known.place(SOURCE) == ("1", "r")

    @pytest.mark.parametrize("turn", [1, -1])
    def test_a_source_that_is_a_place_too(self, turn: int) -> None:
        """In a file of two-way replication a bucket may stand twice, with its rules and as a place: its rules stay."""
        two = [entry(v2()), {"bucket": SOURCE, "region": "r"}][::turn]
        known = learned(*two, now=100)
        assert (known.place(SOURCE), len(known.pairs())) == ((None, "r"), 1)
        assert learned(*two, now=200, before=known) == known

    def test_destination_account_of_the_rule(self) -> None:
        """The account of a destination is known from the rule where no entry tells it."""
        named = v2(Destination={"Bucket": f"arn:aws:s3:::{REPLICA}", "Account": "4"})
        assert learned(entry(named)).place(REPLICA) == (None, None)
        assert learned(entry(named)).expected(user_write())[0].account == "4"


def test_pairs() -> None:
    """Every rule of the newest configuration is listed with its places, also the disabled one."""
    topology = learned(
        entry(v2(), to(AUDIT, Status="Disabled"), account="1", region="r"), {"bucket": REPLICA, "region": "r2"}
    )
    assert [(pair.source.bucket, pair.rule.destination, pair.rule.enabled) for pair in topology.pairs()] == [
        (SOURCE, REPLICA, True),
        (SOURCE, AUDIT, False),
    ]
    assert topology.pairs()[0].destination == BucketConfig(REPLICA, None, "r2")


def test_knows_rules() -> None:
    """Places alone are no topology: pairs are then inferred."""
    assert not learned({"bucket": REPLICA, "region": "r"})
    assert learned(entry(v2()))


def test_origins() -> None:
    """A bucket's possible sources are those whose prefix fits; the rule is told where only one could be it."""
    topology = Topology(
        [
            config(rule(prefix="a/", rule_id="1"), rule(prefix="", rule_id="2"), account="1"),
            config(rule(rule_id="3"), bucket="returns"),
        ]
    )
    assert [(part.bucket, part.rule_id) for part in topology.origins(REPLICA, "b")] == [(SOURCE, "2"), ("returns", "3")]
    assert [(part.bucket, part.rule_id) for part in topology.origins(REPLICA, "a/b")] == [
        (SOURCE, ""),
        ("returns", "3"),
    ]
    assert topology.origins(SOURCE, "b") == ()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "a topology is a JSON list of buckets, this is an object"),
        (["orders"], "entry 1 is a string, not an object with a bucket"),
        ([{}], "entry 1: bucket is missing"),
        ([{"bucket": 7}], "entry 1: bucket is a number, not a string"),
        ([{"bucket": "b", "since": "yesterday"}], "entry 1 (b): since: not an RFC 3339 time: 'yesterday'"),
        ([{"bucket": "b", "since": "2026-11-22T07:00:00"}], "since: time without a zone"),
        ([{"bucket": "b", "ReplicationConfiguration": []}], "ReplicationConfiguration is a list, not an object"),
        ([{"bucket": "b", "ReplicationConfiguration": {"Rules": {}}}], "Rules is an object, not a list"),
        ([entry(v2(Status="on"))], "rule 1: Status is 'on', allowed are 'Enabled' and 'Disabled'"),
        ([entry(v2(Priority=True))], "rule 1: Priority is true or false, not a whole number"),
        ([entry(v2(Destination={}))], "rule 1: Bucket is missing"),
        ([entry(v2(Filter={"Tag": {"Key": "k"}}))], "rule 1: Value is missing"),
        ([entry(v2(Filter={"And": {"Tags": ["k"]}}))], "rule 1: Tag is a string, not an object with Key and Value"),
        ([entry({"Status": "Enabled"})], "rule 1: Destination is missing"),
        (
            [entry(v2(), v2(Destination={"Bucket": f"arn:aws:s3:::{SOURCE}"}))],
            f"entry 1 ({SOURCE}), rule 2: its Destination is the bucket itself: name the bucket of the replicas",
        ),
        ([entry(v2(DeleteMarkerReplication={}))], "rule 1, DeleteMarkerReplication: Status is missing"),
    ],
)
def test_bad_documents(document: object, message: str) -> None:
    """A document that breaks the form is refused, naming the entry and the field."""
    with pytest.raises(TopologyError) as caught:
        parse_topology(document)
    assert message in str(caught.value)


def test_whole_answer_of_get_bucket_replication() -> None:
    """What GetBucketReplication answers is taken as it is, with its outer object."""
    answer = {"ReplicationConfiguration": {"Role": "r", "Rules": [v2()]}}
    inner = parse_topology([{"bucket": SOURCE, "ReplicationConfiguration": answer["ReplicationConfiguration"]}])
    assert parse_topology([{"bucket": SOURCE, "ReplicationConfiguration": answer}]) == inner
