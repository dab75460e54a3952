"""Set-up plans: what has to be there, and what has to be done for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crr_monitor.aws.plan_model import Resource, Watched, minimal_prefixes, watched_buckets
from crr_monitor.aws.selectors import MAX_ARNS
from crr_monitor.aws.setup_plan import desired, diff
from tests.aws.making import AGENT, HOME, HUB, TOKEN, agent, config, stack, watched

PREFIX = f"crr-monitor-{TOKEN}-"


def addresses(plan: Any) -> list[tuple[str, str, str]]:  # noqa: ANN401 - a plan
    """What the plan wants, without the names' common beginning."""
    return [(each.kind, each.region, each.name.removeprefix(PREFIX)) for each in plan.resources]


def find(plan: Any, kind: str, region: str) -> Resource:  # noqa: ANN401
    """The only resource of its kind in a Region, of rules that for objects."""
    (found,) = [
        each
        for each in plan.resources
        if each.kind == kind and each.region == region and not each.name.endswith("configuration")
    ]
    resource: Resource = found
    return resource


def test_hub_with_two_regions() -> None:
    """The hub's own Region needs rules for the template's topic, another Region a topic and a subscription as well."""
    plan = desired(stack(), [watched(), watched("orders-dr", "eu-west-1")], [HOME, "eu-west-1", "ap-south-1"])
    assert plan.problems == ()
    assert addresses(plan) == [
        ("queue", "ap-south-1", "undelivered"),
        ("queue", "eu-west-1", "undelivered"),
        ("queue", "us-east-1", "undelivered"),
        ("queue-policy", "us-east-1", "https://queue"),
        ("topic", "eu-west-1", "events"),
        ("subscription", "eu-west-1", "events"),
        ("rule", "ap-south-1", "configuration"),
        ("rule", "eu-west-1", "configuration"),
        ("rule", "eu-west-1", "events-0"),
        ("rule", "us-east-1", "configuration"),
        ("rule", "us-east-1", "events-0"),
    ]


def test_hub_rule_ends_in_its_regions_topic() -> None:
    """A rule of the hub sends to the topic of its own Region, and what cannot be delivered to the queue there."""
    plan = desired(stack(), [watched(region="eu-west-1")], [])
    (target,) = find(plan, "rule", "eu-west-1").properties["Targets"]
    assert target == {
        "Id": "crr-monitor",
        "Arn": f"arn:aws:sns:eu-west-1:{HUB}:{PREFIX}events",
        "DeadLetterConfig": {"Arn": f"arn:aws:sqs:eu-west-1:{HUB}:{PREFIX}undelivered"},
    }


def test_agent_forwards_to_the_hubs_bus() -> None:
    """An agent makes rules to the hub's bus with the forwarding role, and neither topics nor policies of a queue."""
    mine = agent()
    plan = desired(mine, [watched(region="eu-west-1")], ["eu-west-1"])
    assert {each.kind for each in plan.resources} == {"queue", "rule"}
    (target,) = find(plan, "rule", "eu-west-1").properties["Targets"]
    assert (target["Arn"], target["RoleArn"]) == (mine.hub_bus_arn, mine.forward_role_arn)


@pytest.mark.parametrize(
    ("source", "pattern"),
    [
        (
            "CloudTrail",
            {
                "source": ["aws.s3"],
                "detail-type": [{"suffix": "API Call via CloudTrail"}],
                "detail": {
                    "eventSource": ["s3.amazonaws.com"],
                    "eventName": ["PutObject", "PostObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject"],
                    "requestParameters": {"bucketName": ["orders"]},
                },
            },
        ),
        (
            "EventBridge",
            {
                "source": ["aws.s3"],
                "detail-type": ["Object Created", "Object Deleted"],
                "detail": {"bucket": {"name": ["orders"]}},
            },
        ),
    ],
)
def test_patterns(source: str, pattern: dict[str, Any]) -> None:
    """A rule takes the events of its event source about the watched buckets, uploads of every kind included."""
    plan = desired(stack(event_source=source), [watched()], [])
    assert find(plan, "rule", HOME).properties["EventPattern"] == pattern


def find_denied(plan: Any) -> list[Resource]:  # noqa: ANN401
    """The rules of denied reads."""
    return [each for each in plan.resources if each.name.endswith("denied-reads")]


@pytest.mark.parametrize("kind", ["hub", "agent"])
@pytest.mark.parametrize("detail", ["Objects", "All"])
def test_denied_reads(kind: str, detail: str) -> None:
    """Where denied reads are asked for, each Region has a rule for them, to the same target as the one for writes."""
    mine = {"hub": stack, "agent": agent}[kind](denied_reads=detail, trail_bucket="logs")
    plan = desired(mine, [watched(), watched("eu", "eu-west-1")], ["ap-south-1"])
    assert [each.region for each in find_denied(plan)] == ["eu-west-1", "us-east-1"]
    for each in find_denied(plan):
        (writes,) = [
            other for other in plan.resources if other.region == each.region and other.name.endswith("events-0")
        ]
        assert each.properties["Targets"] == writes.properties["Targets"]
        assert each.properties["EventPattern"]["detail"]["userIdentity"] == {
            "principalId": [{"suffix": ":s3-replication"}]
        }
    selectors = find(plan, "trail", mine.region).properties["AdvancedEventSelectors"]
    assert [each["Name"] for each in selectors] == ["Writes to replicated buckets", "Reads of the replication service"]


def test_no_denied_reads() -> None:
    """Without being asked for, and with another source of events than CloudTrail, no reads are logged or taken."""
    plain = desired(stack(trail_bucket="logs"), [watched()], [])
    other = desired(stack(event_source="EventBridge", denied_reads="All"), [watched()], [])
    assert find_denied(plain) + find_denied(other) == []
    assert len(find(plain, "trail", HOME).properties["AdvancedEventSelectors"]) == 1


def test_denied_reads_of_a_source_that_retires() -> None:
    """While CloudTrail goes on beside its successor, so does the rule of denied reads."""
    mine = stack(event_source="EventBridge", retiring=("CloudTrail",), denied_reads="Objects")
    assert [each.region for each in find_denied(desired(mine, [watched()], []))] == [HOME]


def test_notifications_need_topics_and_no_rules_for_objects() -> None:
    """With S3Notifications each Region with buckets of any account has a topic, to which only those publish."""
    mine = stack(event_source="S3Notifications", agent_accounts=(AGENT,))
    plan = desired(mine, [watched(region="eu-west-1")], [HOME], ["sa-east-1"])
    assert [each.region for each in plan.resources if each.kind == "topic"] == ["eu-west-1", "sa-east-1"]
    assert {each.name for each in plan.resources if each.kind == "rule"} == {PREFIX + "configuration"}
    buckets = find(plan, "topic", "sa-east-1").properties["Policy"]["Statement"][1]
    assert buckets["Principal"] == {"Service": "s3.amazonaws.com"}
    assert buckets["Condition"] == {"StringEquals": {"aws:SourceAccount": [HUB, AGENT]}}


def test_a_topic_does_not_insist_on_the_rule() -> None:
    """EventBridge may publish to a topic in another Region, also where it does not say for which rule."""
    plan = desired(stack(), [watched(region="eu-west-1")], [])
    rules = find(plan, "topic", "eu-west-1").properties["Policy"]["Statement"][0]
    assert rules["Principal"] == {"Service": "events.amazonaws.com"}
    arn = f"arn:aws:events:eu-west-1:{HUB}:rule/{PREFIX}*"
    assert rules["Condition"] == {"ArnLikeIfExists": {"aws:SourceArn": arn}}


def test_notifications_of_an_organization() -> None:
    """For an organization its buckets may publish, beside those of the hub's account and of accounts that are named."""
    mine = stack(event_source="S3Notifications", agent_organization="o-a1b2c3d4e5", agent_accounts=(AGENT,))
    plan = desired(mine, [watched(region="eu-west-1")], [])
    statements = find(plan, "topic", "eu-west-1").properties["Policy"]["Statement"][1:]
    assert [each["Principal"] for each in statements] == [{"Service": "s3.amazonaws.com"}] * 2
    assert [each["Condition"]["StringEquals"] for each in statements] == [
        {"aws:SourceAccount": [HUB, AGENT]},
        {"aws:SourceOrgID": "o-a1b2c3d4e5"},
    ]


def test_agent_with_notifications_has_no_rules_for_objects() -> None:
    """An agent's buckets publish to the hub's topic themselves, so it only listens for changed replication rules."""
    plan = desired(agent(event_source="S3Notifications"), [watched(region="eu-west-1")], ["eu-west-1"])
    assert [each.name.rsplit("-", 1)[-1] for each in plan.resources] == ["undelivered", "configuration"]


def test_opt_in_to_opt_in_is_refused() -> None:
    """A topic in one opt-in Region cannot reach a queue in another.

    The plan says so and leaves out what would be of no use.
    """
    mine = stack(region="af-south-1")
    plan = desired(mine, [watched(region="me-south-1"), watched("other", "us-east-1")], [])
    (problem,) = plan.problems
    assert problem.startswith("me-south-1 cannot be watched from af-south-1: both are opt-in Regions")
    assert {each.region for each in plan.resources if each.kind == "topic"} == {"us-east-1"}
    assert [each.name for each in plan.resources if each.region == "me-south-1"] == [
        PREFIX + "undelivered",
        PREFIX + "configuration",
    ]


def test_opt_in_topics_have_their_own_principal() -> None:
    """The queue's policy admits SNS of default Regions under one name, and of each opt-in Region under its own."""
    plan = desired(stack(), [watched(region="eu-west-1"), watched("b", "me-south-1")], [])
    (statement,) = find(plan, "queue-policy", HOME).properties["Policy"]["Statement"]
    assert statement["Principal"] == {"Service": ["sns.amazonaws.com", "sns.me-south-1.amazonaws.com"]}
    assert statement["Condition"] == {"ArnLike": {"aws:SourceArn": f"arn:aws:sns:*:{HUB}:{PREFIX}events"}}


def test_a_hub_in_an_opt_in_region_has_plain_sns_too() -> None:
    """Where all topics are in the hub's own opt-in Region, its queue admits plain SNS as well."""
    plan = desired(stack(region="me-south-1"), [watched(region="me-south-1")], [])
    (statement,) = find(plan, "queue-policy", "me-south-1").properties["Policy"]["Statement"]
    assert statement["Principal"] == {"Service": ["sns.amazonaws.com", "sns.me-south-1.amazonaws.com"]}


def test_agents_in_opt_in_regions_are_fine() -> None:
    """From an agent events go through EventBridge, to which the limit of SNS does not apply."""
    plan = desired(agent(region="me-south-1"), [watched(region="af-south-1")], [])
    assert plan.problems == ()


def test_topic_key_of_its_region() -> None:
    """A topic is encrypted with the key that was named for its Region, and with none otherwise."""
    key = "arn:aws:kms:eu-west-1:111122223333:key/1"
    plan = desired(stack(topic_keys=(key,)), [watched(region="eu-west-1"), watched("b", "sa-east-1")], [])
    assert find(plan, "topic", "eu-west-1").properties["KmsMasterKeyId"] == key
    assert find(plan, "topic", "sa-east-1").properties["KmsMasterKeyId"] == ""


def test_too_many_buckets_for_a_trail() -> None:
    """More buckets than a trail takes are refused before anything is done, with what can be done instead.

    Rules are made all the same.
    """
    many = [watched(f"bucket-{number}") for number in range(MAX_ARNS + 1)]
    plan = desired(stack(trail_bucket="logs"), many, [])
    (problem,) = plan.problems
    assert problem.startswith(
        f"{MAX_ARNS + 1} replicated buckets are more than the {MAX_ARNS} that one trail can select"
    )
    assert "EventSource EventBridge" in problem
    assert "trail" not in {each.kind for each in plan.resources}
    assert diff([resource("trail")], [], plan.untouched) == []


def test_a_trail_that_is_not_ours() -> None:
    """Without a bucket for it no trail is planned at all."""
    plan = desired(stack(trail_bucket=""), [watched()], [])
    assert "trail" not in {each.kind for each in plan.resources}


@pytest.mark.parametrize("source", ["EventBridge", "S3Notifications"])
def test_other_sources_select_nothing(source: str) -> None:
    """Only the event source CloudTrail has a trail."""
    plan = desired(stack(event_source=source, trail_bucket="logs"), [watched()], [])
    assert "trail" not in {each.kind for each in plan.resources}


def test_old_source_goes_on_beside_the_new_one() -> None:
    """While a source is retiring, rules, topics and the trail of both are there; what only it needs goes afterwards."""
    buckets, home = [watched()], [HOME]
    plans = [
        desired(stack(event_source="EventBridge", retiring=retiring), buckets, home, ["sa-east-1"])
        for retiring in (("CloudTrail", "S3Notifications"), ())
    ]
    rules, topics = (
        [[each.name.removeprefix(PREFIX) for each in plan.resources if each.kind == kind] for plan in plans]
        for kind in ("rule", "topic")
    )
    assert rules == [["configuration", "events-0", "s3-events-0"], ["configuration", "s3-events-0"]]
    assert topics == [["events"], []]
    assert [len(diff([resource("trail")], [], plan.untouched)) for plan in plans] == [0, 1]
    (topic,) = [each for each in plans[0].resources if each.kind == "topic"]
    assert [each["Sid"] for each in topic.properties["Policy"]["Statement"]] == ["Rules", "Buckets"]


# The difference -------------------------------------------------------------------------------------------------------


def resource(kind: Any = "rule", name: str = "a", region: str = HOME, **properties: Any) -> Resource:  # noqa: ANN401
    """Something in AWS."""
    return Resource(kind, region, name, properties)


def test_nothing_to_do() -> None:
    """Of what is there as it has to be, nothing is touched."""
    assert diff([resource(State="ENABLED")], [resource(State="ENABLED")]) == []


def test_create_update_delete() -> None:
    """What is missing is made first, what differs is changed, what nobody wants goes last; each with its reason."""
    before = [resource(name="old"), resource(name="b", State="DISABLED")]
    after = [resource(name="new"), resource(name="b", State="ENABLED")]
    assert [(each.verb, each.resource.name, each.why) for each in diff(before, after)] == [
        ("create", "new", "it is missing"),
        ("update", "b", "State differs"),
        ("delete", "old", "nothing needs it any more"),
    ]


def test_order_of_kinds() -> None:
    """Queues are made before the topics and rules that use them, and removed after them."""
    kinds = ["rule", "subscription", "topic", "queue"]
    made = [each.resource.kind for each in diff([], [resource(kind) for kind in kinds])]
    removed = [each.resource.kind for each in diff([resource(kind) for kind in kinds], [])]
    assert made == ["queue", "topic", "subscription", "rule"]
    assert removed == ["rule", "subscription", "topic", "queue"]


def test_settings_of_given_things_stay() -> None:
    """The queue's policy belongs to what the template makes: it is changed, and never removed."""
    assert diff([resource("queue-policy")], []) == []


REGIONS = st.sampled_from(["us-east-1", "eu-west-1", "ap-south-1", "sa-east-1"])
BUCKETS = st.dictionaries(st.from_regex(r"[a-z0-9]{3,40}", fullmatch=True), REGIONS, max_size=60)


@given(BUCKETS, BUCKETS, st.sampled_from(["CloudTrail", "EventBridge", "S3Notifications"]))
def test_converges(before: dict[str, str], after: dict[str, str], source: str) -> None:
    """Doing all actions of a difference leads from any plan to any other, after which there is nothing to do."""
    mine = stack(event_source=source, trail_bucket="logs" if source == "CloudTrail" else "")
    first, second = [
        desired(mine, [watched(name, region) for name, region in each.items()], set(each.values())).resources
        for each in (before, after)
    ]
    there = {each.address: each for each in first}
    for action in diff(first, second):
        if action.verb == "delete":
            del there[action.resource.address]
        else:
            there[action.resource.address] = action.resource
    assert diff(there.values(), second) == []


# What is watched ------------------------------------------------------------------------------------------------------


def test_sources_and_destinations_are_watched() -> None:
    """An account's buckets that are a source or a destination are watched, whoever's the other one is."""
    owned = {"orders": HOME, "orders-dr": "eu-west-1", "mine": HOME, "unrelated": HOME}
    configs = [config("orders", "orders-dr", "abroad", prefix="2026/"), config("theirs", "mine")]
    assert watched_buckets(owned, configs, ["orders"]) == (
        Watched("mine", HOME, ("",), source=False, destination=True),
        Watched("orders", HOME, ("",), source=True, destination=True),
        Watched("orders-dr", "eu-west-1", ("2026/",), source=False, destination=True),
    )


def test_disabled_rules_watch_nothing() -> None:
    """A disabled rule makes nobody watched."""
    off = config("orders", "orders-dr")
    disabled = replace(off, rules=tuple(replace(rule, enabled=False) for rule in off.rules))
    assert watched_buckets({"orders": HOME, "orders-dr": HOME}, [disabled]) == ()


@given(st.lists(st.text("ab/", max_size=5), max_size=8), st.text("ab/", max_size=8))
def test_minimal_prefixes_cover_the_same(prefixes: list[str], key: str) -> None:
    """Leaving out covered prefixes changes for no key whether some prefix matches it."""
    assert key.startswith(minimal_prefixes(prefixes)) is key.startswith(tuple(prefixes))
