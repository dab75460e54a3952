"""Selectors of trails: those of our own, and what others' log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.aws.patterns import READS
from crr_monitor.aws.plan_model import Watched
from crr_monitor.aws.selectors import (
    MAX_ARNS,
    MAX_VALUES,
    TooManyError,
    Trail,
    canonical,
    most_arns,
    reads_selector,
    room_for_trail,
    trail_selectors,
    uncovered,
    uncovered_reads,
    without_management_events,
)
from tests.aws.making import HUB, watched

if TYPE_CHECKING:
    from crr_monitor.aws.words import DeniedReads


def trail(*selectors: dict[str, Any] | None, **fields: Any) -> Trail:  # noqa: ANN401 - any field of the trail
    """A logging trail in all Regions."""
    told = None if selectors == (None,) else tuple(each for each in selectors if each is not None)
    return Trail(
        **{"arn": "a", "logging": True, "region": "us-east-1", "multi_region": True, "selectors": told, **fields}
    )


def advanced(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - tests by field name, __ for a dot
    """An advanced selector."""
    return {"FieldSelectors": [{"Field": name.replace("__", "."), **test} for name, test in fields.items()]}


DATA = {"eventCategory": {"Equals": ["Data"]}, "resources__type": {"Equals": ["AWS::S3::Object"]}}
BASIC_ALL = {
    "ReadWriteType": "All",
    "IncludeManagementEvents": True,
    "DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}],
}


def values(selectors: list[dict[str, Any]]) -> int:
    """How many values CloudTrail counts."""
    return sum(
        len(test)
        for each in selectors
        for field in each["FieldSelectors"]
        for name, test in field.items()
        if name != "Field"
    )


def arns(selectors: list[dict[str, Any]]) -> list[str]:
    """What is selected."""
    return [arn for field in selectors[0]["FieldSelectors"] for arn in field.get("StartsWith", [])]


def test_by_prefix() -> None:
    """Only what rules replicate is logged, as each logged event costs."""
    found = trail_selectors("aws-cn", [watched("orders", prefixes=("a/", "b/")), watched("all")], "nothing/")
    assert arns(found) == ["arn:aws-cn:s3:::all/", "arn:aws-cn:s3:::orders/a/", "arn:aws-cn:s3:::orders/b/"]


def test_nothing_yet() -> None:
    """A trail has to select something, and without any selector it would log all management events.

    So it selects nothing real.
    """
    assert arns(trail_selectors("aws", [], "nothing/")) == ["arn:aws:s3:::nothing/"]


def test_many_prefixes_become_buckets() -> None:
    """With more prefixes than a trail takes, whole buckets are selected instead."""
    many = watched(prefixes=tuple(f"{number}/" for number in range(MAX_ARNS + 1)))
    assert arns(trail_selectors("aws", [many], "nothing/")) == ["arn:aws:s3:::orders/"]


def test_as_many_as_a_trail_takes() -> None:
    """The largest number of buckets makes exactly the number of values that CloudTrail allows; one more is refused."""
    most = [watched(f"bucket-{number}") for number in range(MAX_ARNS)]
    assert values(trail_selectors("aws", most, "nothing/")) == MAX_VALUES
    with pytest.raises(TooManyError, match="choose EventSource EventBridge"):
        trail_selectors("aws", [*most, watched("one-more")], "nothing/")


def test_only_data_events() -> None:
    """No management event is ever selected, nor parts of uploads."""
    ours = trail(*trail_selectors("aws", [watched()], "nothing/"))
    assert without_management_events(["us-east-1"], [ours]) == ("us-east-1",)
    fields = {field["Field"]: field for field in trail_selectors("aws", [watched()], "x")[0]["FieldSelectors"]}
    assert fields["eventName"]["Equals"] == [
        "PutObject",
        "PostObject",
        "CopyObject",
        "CompleteMultipartUpload",
        "DeleteObject",
    ]


def test_ours_cover_what_they_were_made_for() -> None:
    """Our own selectors log every write to every watched prefix."""
    buckets = [watched("orders", prefixes=("a/", "b/")), watched("other", "eu-west-1")]
    assert uncovered("aws", buckets, [trail(*trail_selectors("aws", buckets, "x"))]) == ()


def test_answers_compare_equal() -> None:
    """Selectors as CloudTrail answers them, with empty parts and in another order, have the same canonical form."""
    wanted = trail_selectors("aws", [watched("a"), watched("b")], "x")
    answer = [
        {
            "Name": wanted[0]["Name"],
            "FieldSelectors": [
                {name: list(reversed(test)) if name != "Field" else test for name, test in field.items()}
                | {"NotEquals": []}
                for field in wanted[0]["FieldSelectors"]
            ],
        }
    ]
    assert canonical(answer) == wanted


@pytest.mark.parametrize(
    ("selectors", "missing"),
    [
        ([BASIC_ALL], ()),
        ([{**BASIC_ALL, "ReadWriteType": "WriteOnly"}], ()),
        ([{**BASIC_ALL, "ReadWriteType": "ReadOnly"}], ("orders",)),
        ([{**BASIC_ALL, "DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::orders/"]}]}], ()),
        (
            [{**BASIC_ALL, "DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::orders/x"]}]}],
            ("orders",),
        ),
        ([{**BASIC_ALL, "DataResources": []}], ("orders",)),
        ([advanced(**DATA)], ()),
        ([advanced(**DATA, readOnly={"Equals": ["false"]})], ()),
        ([advanced(**DATA, readOnly={"Equals": ["true"]})], ("orders",)),
        ([advanced(**DATA, resources__ARN={"NotStartsWith": ["arn:aws:s3:::orders/"]})], ("orders",)),
        ([advanced(**DATA, eventName={"Equals": ["PutObject"]})], ("orders",)),
        ([advanced(**DATA, eventName={"NotEquals": ["UploadPart"]})], ()),
        ([advanced(**DATA, userIdentity__arn={"EndsWith": ["/s3-replication"]})], ("orders",)),
        ([], ("orders",)),
        ([None], ("orders",)),
    ],
)
def test_other_trails(selectors: list[dict[str, Any] | None], missing: tuple[str, ...]) -> None:
    """A bucket counts as seen only where some trail certainly logs every write to it."""
    assert uncovered("aws", [watched()], [trail(*selectors)]) == missing


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"logging": False}, ("orders",)),
        ({"multi_region": False}, ()),
        ({"multi_region": False, "region": "eu-west-1"}, ("orders",)),
    ],
)
def test_trails_that_do_not_log_here(fields: dict[str, Any], missing: tuple[str, ...]) -> None:
    """A stopped trail logs nothing, and one of a single Region nothing elsewhere."""
    assert uncovered("aws", [Watched("orders", "us-east-1")], [trail(BASIC_ALL, **fields)]) == missing


def test_management_events() -> None:
    """Where no trail logs management events, changed replication rules are not told at once, and that is said."""
    one = trail(BASIC_ALL, multi_region=False)
    assert without_management_events(["us-east-1", "eu-west-1"], [one]) == ("eu-west-1",)
    managing = trail(advanced(eventCategory={"Equals": ["Management"]}))
    assert without_management_events(["us-east-1"], [managing]) == ()


def test_five_trails() -> None:
    """A sixth trail is refused before it is tried, naming the Region and what to do."""
    five = [trail(arn=f"t{number}", multi_region=number > 1) for number in range(5)]
    assert room_for_trail(five[1:], ["us-east-1"]) == ()
    (problem,) = room_for_trail(five, ["us-east-1", "eu-west-1"])
    assert problem.startswith("us-east-1 has 5 trails")
    assert "Trail Existing" in problem


# Reads of the replication service -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("detail", "most"), [("No", 493), ("Objects", 489), ("All", 484)])
def test_reads_take_few_values(detail: DeniedReads, most: int) -> None:
    """The selector of reads takes its share of the values once, however many buckets there are; one more is refused."""
    reads = READS[detail]
    buckets = [watched(f"bucket-{number}") for number in range(most_arns(reads))]
    assert len(buckets) == most
    assert values(trail_selectors("aws", buckets, "x", reads)) == MAX_VALUES
    with pytest.raises(TooManyError, match=f"more than the {most} that one trail can select"):
        trail_selectors("aws", [*buckets, watched("one-more")], "x", reads)


def test_too_many_with_reads() -> None:
    """Where the buckets would fit without the reads, that is said first; where they would not, it is not."""
    buckets = [watched(f"bucket-{number}") for number in range(MAX_ARNS + 1)]
    with pytest.raises(TooManyError) as fits:
        trail_selectors("aws", buckets[:-1], "x", READS["Objects"])
    with pytest.raises(TooManyError) as never:
        trail_selectors("aws", buckets, "x", READS["Objects"])
    without = "set DeniedReads to No, which leaves room for 493"
    assert (without in str(fits.value), without in str(never.value)) == (True, False)
    assert "500 values, of which DeniedReads takes 4" in str(never.value)


def test_prefixes_make_room_for_reads() -> None:
    """Prefixes that would fit without the selector of reads become buckets, so that it fits."""
    many = watched(prefixes=tuple(f"{number}/" for number in range(MAX_ARNS)))
    assert arns(trail_selectors("aws", [many], "x", READS["All"])) == ["arn:aws:s3:::orders/"]


def test_reads_beside_writes() -> None:
    """Without reads the trail's selectors are those of writes; with them one comes in addition, in canonical form."""
    writes = trail_selectors("aws", [watched()], "x")
    both = trail_selectors("aws", [watched()], "x", READS["All"])
    assert both == [*writes, reads_selector(READS["All"])]
    assert canonical(both) == both
    assert uncovered("aws", [watched()], [trail(both[1])]) == ("orders",)


@pytest.mark.parametrize(
    ("selectors", "missing"),
    [
        ([reads_selector(READS["Objects"])], ()),
        ([reads_selector(READS["All"])], ()),
        ([BASIC_ALL], ()),
        ([{**BASIC_ALL, "ReadWriteType": "ReadOnly"}], ()),
        ([{**BASIC_ALL, "ReadWriteType": "WriteOnly"}], ("orders",)),
        ([advanced(**DATA, readOnly={"Equals": ["true"]})], ()),
        ([advanced(**DATA, readOnly={"Equals": ["false"]})], ("orders",)),
        (
            [advanced(**DATA, userIdentity__arn={"StartsWith": ["arn:aws:sts::111122223333:assumed-role/crr/"]})],
            ("orders",),
        ),
        (trail_selectors("aws", [watched()], "x"), ("orders",)),
        ([], ("orders",)),
        ([None], ("orders",)),
    ],
)
def test_reads_in_other_trails(selectors: list[dict[str, Any] | None], missing: tuple[str, ...]) -> None:
    """A source whose reads no trail certainly logs is named; a mere destination is not read, and never is."""
    buckets = [watched(), watched("orders-dr", source=False, destination=True)]
    assert uncovered_reads(HUB, "aws", buckets, [trail(*selectors)], READS["Objects"]) == missing


def test_all_reads_in_another_trail() -> None:
    """A trail that logs reads of objects only is not enough where those of ACLs and tags are asked for."""
    objects = trail(reads_selector(READS["Objects"]))
    assert uncovered_reads(HUB, "aws", [watched()], [objects], READS["All"]) == ("orders",)
