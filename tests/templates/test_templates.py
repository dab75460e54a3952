"""The templates: what they say agrees with the code, and every permission has its reason."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crr_monitor import templates
from crr_monitor.aws.agents import AGENT_VERSION
from crr_monitor.aws.patterns import READS
from crr_monitor.aws.plan_model import Stack
from crr_monitor.lambdas.settings import BY_HANDLER, variables
from crr_monitor.stores.dynamodb_tables import STATISTICS, STATUS, cloudformation_properties
from tools import permissions

NAMES = (templates.HUB, templates.AGENT)
FOLDER = Path(templates.__file__).parent
HUB = permissions.load(templates.text(templates.HUB))
AGENT = permissions.load(templates.text(templates.AGENT))
BOTH = pytest.mark.parametrize("template", [HUB, AGENT], ids=["hub", "agent"])

NO_SINGLE_RESOURCE = {
    "s3:ListAllMyBuckets",
    "events:ListRules",
    "cloudwatch:PutMetricData",
    "cloudwatch:DescribeAlarms",
    "cloudtrail:DescribeTrails",
    "cloudtrail:GetTrailStatus",
    "cloudtrail:GetEventSelectors",
    "sns:GetSubscriptionAttributes",
    "sns:SetSubscriptionAttributes",
    "sns:Unsubscribe",
}
"""Actions that know no single resource (Service Authorization Reference), or are asked about trails of others."""


def resources(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The template's resources of one type, by name."""
    return {name: each for name, each in template["Resources"].items() if each["Type"] == kind}


def strings(value: Any) -> list[str]:  # noqa: ANN401 - any part of a template
    """All texts in a part of a template."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", NAMES)
def test_lint(name: str) -> None:
    """cfn-lint has nothing to say, in any partition."""
    lint = Path(sys.executable).parent / "cfn-lint"
    command = [str(lint), "-r", "us-east-1", "cn-north-1", "us-gov-west-1", "--", str(FOLDER / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@BOTH
def test_every_statement_has_its_reason(template: dict[str, Any]) -> None:
    """Each statement of each role has a reason in the role's metadata, and there are no reasons without a statement."""
    found = list(permissions.statements(template))
    assert [each for each in found if not each.reason] == []
    said = {(each.role, each.sid) for each in found}
    told = {
        (name, sid)
        for name, role in resources(template, "AWS::IAM::Role").items()
        for sid in role["Metadata"]["Reasons"]
    }
    assert told == said


@BOTH
def test_every_action_is_known(template: dict[str, Any]) -> None:
    """A role has no action that is not in the table of actions, and none with a star."""
    used = {action for each in permissions.statements(template) for action in each.actions}
    assert used - permissions.ACTIONS.keys() == set()


def test_no_action_is_left_over() -> None:
    """The table of actions names none that no role has."""
    used = {
        action for each in [*permissions.statements(HUB), *permissions.statements(AGENT)] for action in each.actions
    }
    assert permissions.ACTIONS.keys() - used == set()


@BOTH
def test_star_only_where_nothing_else_works(template: dict[str, Any]) -> None:
    """Resource "*" stands only beside actions that know no single resource."""
    stars = {action for each in permissions.statements(template) if "*" in each.resources for action in each.actions}
    assert stars - NO_SINGLE_RESOURCE == set()


@BOTH
def test_what_changes_something_is_bound_to_the_stack(template: dict[str, Any]) -> None:
    """What a role may change is the stack's or has its token, or is a bucket's notifications, or an archive's files."""
    changing = re.compile(r":(Put|Create|Delete|Set|Update|Remove|Tag|Batch[WG]|Send|Subscribe|Assume|Pass)")
    loose = [
        (each.role, each.sid, arn)
        for each in permissions.statements(template)
        if any(changing.search(action) for action in each.actions)
        for arn in each.resources
        if "Token}" not in arn and not re.fullmatch(r"\$\{\w+(\.Arn)?\}(/stream/\*)?", arn)
    ]
    allowed = [
        ("SetupRole", "KeepSubscriptions", "*"),
        ("SettleRole", "Publish", "*"),
        ("WatchRole", "Publish", "*"),
        ("SetupRole", "ChangeNotifications", "arn:${AWS::Partition}:s3:::*"),
        ("ArchiveRole", "WriteArchive", "arn:${AWS::Partition}:s3:::${ArchiveBucket}/${ArchivePrefix}archive/*"),
        ("ArchiveRole", "WriteArchive", "arn:${AWS::Partition}:s3:::${ArchiveBucket}/${ArchivePrefix}errors/*"),
        (
            "WatchRole",
            "WriteCoverage",
            "arn:${AWS::Partition}:s3:::${ArchiveBucket}/${ArchivePrefix}archive/coverage/*",
        ),
    ]
    assert [each for each in loose if each not in allowed] == []


@BOTH
def test_every_role_can_have_a_boundary(template: dict[str, Any]) -> None:
    """Every role takes the permissions boundary."""
    boundary = {"Fn::If": ["HasBoundary", {"Ref": "PermissionsBoundary"}, {"Ref": "AWS::NoValue"}]}
    roles = resources(template, "AWS::IAM::Role").values()
    assert [role["Properties"]["PermissionsBoundary"] for role in roles] == [boundary] * len(roles)


@BOTH
def test_each_function_has_a_role_of_its_own(template: dict[str, Any]) -> None:
    """No two functions share a role, and each role is some function's, EventBridge's, Firehose's or the hub's."""
    functions = resources(template, "AWS::Lambda::Function").values()
    used = [each["Properties"]["Role"]["Fn::GetAtt"][0] for each in functions]
    assert len(set(used)) == len(used)
    assert resources(template, "AWS::IAM::Role").keys() - {*used} <= {"ForwardRole", "HubRole", "ArchiveRole"}


@BOTH
def test_environment(template: dict[str, Any]) -> None:
    """A function's environment has exactly the variables that its settings read."""
    for function in resources(template, "AWS::Lambda::Function").values():
        properties = function["Properties"]
        wanted = variables(BY_HANDLER[properties["Handler"]])
        assert sorted(properties["Environment"]["Variables"]) == sorted(wanted), properties["Handler"]


def test_what_a_hub_tells_its_agents() -> None:
    """Every parameter that a hub tells is an output of its stack; without a default are only such, and the code."""
    assert {*templates.HUB_TELLS} <= HUB["Outputs"].keys() & AGENT["Parameters"].keys()
    needed = {name for name, each in AGENT["Parameters"].items() if "Default" not in each}
    assert needed - {*templates.HUB_TELLS} == {"CodeBucket", "CodeKey"}


def test_handlers() -> None:
    """The hub has every function, the agent only set-up, and the code that is there has its handler."""
    handlers = {each["Properties"]["Handler"] for each in resources(HUB, "AWS::Lambda::Function").values()}
    assert handlers == BY_HANDLER.keys()
    (agent,) = resources(AGENT, "AWS::Lambda::Function").values()
    assert agent["Properties"]["Handler"] == "crr_monitor.lambdas.setup.handler"


@pytest.mark.parametrize(("name", "table"), [("StatusTable", STATUS), ("StatisticsTable", STATISTICS)])
def test_tables(name: str, table: Any) -> None:  # noqa: ANN401 - the store's own type
    """A table has the keys, indexes, stream and TTL attribute that the store works with."""
    properties = dict(HUB["Resources"][name]["Properties"])
    key = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": {"Ref": "TableKeyArn"}}
    assert properties.pop("SSESpecification") == {"Fn::If": ["HasTableKey", key, {"Ref": "AWS::NoValue"}]}
    assert properties == cloudformation_properties(table)


@BOTH
def test_partitions(template: dict[str, Any]) -> None:
    """No ARN is written for one partition, account or Region only."""
    text = strings({name: each for name, each in template.items() if name in {"Resources", "Outputs", "Rules"}})
    assert [each for each in text if re.search(r"arn:aws[:-]|amazonaws\.com\.cn|\b\d{12}\b|us-east-1", each)] == []


@BOTH
def test_no_fixed_names(template: dict[str, Any]) -> None:
    """Every physical name has a token of some stack in it, so that several stacks fit into one account."""
    keys = {"Name", "TopicName", "QueueName", "RoleName", "TableName", "FunctionName", "TrailName", "LogGroupName"}
    named = {
        (kind, key): each["Properties"][key]
        for kind, each in ((each["Type"], each) for each in template["Resources"].values())
        if kind not in {f"AWS::Lambda::{each}" for each in ("Permission", "EventSourceMapping", "EventInvokeConfig")}
        and kind not in {"AWS::Athena::NamedQuery", "AWS::Logs::LogStream"}  # named within something of ours
        for key in keys & each["Properties"].keys()
    }
    assert [where for where, value in named.items() if "Token}" not in "".join(strings(value))] == []


@BOTH
def test_set_up_runs_again_for_every_parameter(template: dict[str, Any]) -> None:
    """The custom resource has the code's key, and every parameter that the set-up function's behaviour depends on."""
    given = template["Resources"]["SetUp"]["Properties"]
    asked = (
        set(strings(template["Resources"]["SetupFunction"]["Properties"]["Environment"]))
        & template["Parameters"].keys()
    )
    told = set(strings({name: value for name, value in given.items() if name != "ServiceToken"}))
    assert given["Code"] == {"Ref": "CodeKey"}
    without_effect = {"HubAccount"} if template is AGENT else set()  # it changes together with the token
    assert asked - told - without_effect == set()


@BOTH
def test_parameters_are_grouped_and_described(template: dict[str, Any]) -> None:
    """Every parameter is in one group, has a description, and where it is free text, a pattern or a length."""
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    checks = {"AllowedPattern", "AllowedValues", "MinLength", "MinValue"}
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"].strip(), name
        assert parameter.keys() & checks or name in {"ObjectArns", "BucketArns"}, name


@BOTH
def test_denied_reads_are_asked_for(template: dict[str, Any]) -> None:
    """No reads are logged by default, and with CloudTrail only; set-up is told, and runs again when that changes."""
    parameter = template["Parameters"]["DeniedReads"]
    assert (parameter["Default"], parameter["AllowedValues"]) == ("No", [*READS])
    variables = template["Resources"]["SetupFunction"]["Properties"]["Environment"]["Variables"]
    told = {"Ref": "DeniedReads"}
    assert variables["CRR_MONITOR_DENIED_READS"] == template["Resources"]["SetUp"]["Properties"]["DeniedReads"] == told
    rule = template["Rules"]["DeniedReadsNeeds"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [told, "No"]}]}
    (needed,) = rule["Assertions"]
    assert needed["Assert"] == {"Fn::Equals": [{"Ref": "EventSource"}, "CloudTrail"]}


@BOTH
def test_the_trail_is_set_ups(template: dict[str, Any]) -> None:
    """The template makes no trail, which would go too early; its bucket lets only that trail write, and it stays."""
    assert resources(template, "AWS::CloudTrail::Trail") == {}
    policy = template["Resources"]["TrailBucketPolicy"]
    arns = {each for each in strings(policy["Properties"]) if ":trail/" in each}
    assert {each.rpartition(":")[2] for each in arns} == {"trail/crr-monitor-${Token}"}
    kept = {"Condition": "MakesTrail", "DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}
    for name in ("TrailBucket", "TrailBucketPolicy"):
        assert kept.items() <= template["Resources"][name].items()


def test_names_that_code_and_templates_share() -> None:
    """Topic, trail placeholder, agent's bus and role have the names by which the code finds them."""
    stack = Stack(
        kind="hub",
        stack_id="",
        token="${Token}",  # noqa: S106 - a part of names
        account="",
        region="",
        hub_account="",
        hub_token="${Token}",  # noqa: S106
        hub_bus_arn="",
        own_bus_arn="",
        forward_role_arn="",
    )
    assert HUB["Resources"]["Topic"]["Properties"]["TopicName"]["Fn::Sub"][0] == stack.topic
    for template in (HUB, AGENT):
        assert any(each.endswith(f":trail/{stack.trail}") for each in strings(template["Resources"]["SetupRole"]))
    assert AGENT["Resources"]["Bus"]["Properties"]["Name"] == {"Fn::Sub": "crr-monitor-${HubToken}-agent"}
    assert AGENT["Resources"]["HubRole"]["Properties"]["RoleName"] == {"Fn::Sub": "crr-monitor-${HubToken}-agent"}
    undelivered = f":{stack.undelivered}"
    for template in (HUB, AGENT):
        assert any(each.endswith(undelivered) for each in strings(template["Resources"]["SetupRole"]))


def test_hub_tells_what_the_agent_asks() -> None:
    """Every parameter of the agent that describes the hub is an output of the hub under the same name."""
    groups = AGENT["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert {*groups[0]["Parameters"], "EventSource"} <= HUB["Outputs"].keys()


def test_every_role_that_uses_a_table_may_use_its_key() -> None:
    """Where the tables have a key of the customer's, each role that may read or write a table may use that key."""
    found = list(permissions.statements(HUB))
    of_tables = re.compile(r"\$\{Stat\w+Table\.Arn\}")
    tables = {each.role for each in found if any(of_tables.match(arn) for arn in each.resources)}
    assert {each.role for each in found if each.sid == "UseTableKey"} == tables


def test_custom_resources_wait_for_the_tables_key() -> None:
    """No function is called by CloudFormation before its role may use the key of the tables."""
    called = {name: each for name, each in HUB["Resources"].items() if each["Type"].startswith("Custom::")}
    assert called.keys() == {"SetUp", "FirstLook", "FirstCanary"}
    assert [name for name, each in called.items() if "MayUseTableKey" not in strings(each["Properties"])] == []


def test_the_topic_does_not_insist_on_the_rule() -> None:
    """EventBridge may publish to the hub's topic, also where it does not say for which rule."""
    rules = HUB["Resources"]["TopicPolicy"]["Properties"]["PolicyDocument"]["Statement"][0]
    assert rules["Principal"] == {"Service": "events.amazonaws.com"}
    assert rules["Condition"].keys() == {"ArnLikeIfExists"}


@BOTH
def test_alarms_name_their_cure(template: dict[str, Any]) -> None:
    """Every alarm about the monitor itself says what to look at or to do, and can tell somebody."""
    for name, alarm in resources(template, "AWS::CloudWatch::Alarm").items():
        text = alarm["Properties"]["AlarmDescription"]
        assert re.search(r"\b(logs?|look|see|ask|mend|mended|redrive|choose|purge)\b", text, re.IGNORECASE), name
        assert len(text) <= 1_024, name


def test_nothing_is_given_up_without_a_word() -> None:
    """What a function gives up lies in a queue that has an alarm; only the schedule's runs are not tried again."""
    changes = HUB["Resources"]["SettleChanges"]["Properties"]
    assert changes["BisectBatchOnFunctionError"] is True
    assert changes["DestinationConfig"] == {"OnFailure": {"Destination": {"Fn::GetAtt": ["UncountedQueue", "Arn"]}}}
    assert changes["MaximumRecordAgeInSeconds"] < 24 * 3_600  # after that the stream has nothing left to tell
    alarms = resources(HUB, "AWS::CloudWatch::Alarm").values()
    watched = {text for each in alarms for text in strings(each["Properties"].get("Dimensions", []))}
    assert {"UncountedQueue", "DeadLetterQueue", "Queue", "ProcessFunction", "SettleFunction"} <= watched
    assert HUB["Resources"]["ProcessNoRetries"]["Properties"]["MaximumRetryAttempts"] == 0


def test_what_a_schedule_could_not_begin_is_not_made_up_for() -> None:
    """After a time in which functions were not let run no run of the schedules is left over but the last one."""
    told = [each["Properties"] for each in resources(HUB, "AWS::Lambda::EventInvokeConfig").values()]
    functions = ["ProcessFunction", "ReconcileFunction", "WatchFunction", "CanaryFunction"]
    assert [each["FunctionName"]["Ref"] for each in told] == functions
    assert {(each["MaximumRetryAttempts"], each["MaximumEventAgeInSeconds"]) for each in told} == {(0, 60)}


def test_the_last_clean_up_of_canaries_is_the_last() -> None:
    """When canaries are switched off their schedule goes first, so that no run writes one after all were removed."""
    assert HUB["Resources"]["CanaryOnSchedule"]["DependsOn"] == "FirstCanary"


def test_cloudformation_waits_for_functions() -> None:
    """Each function that answers CloudFormation has ended before that gives it up."""
    for template in (HUB, AGENT):
        for resource in template["Resources"].values():
            if resource["Type"].startswith("Custom::"):
                function = template["Resources"][resource["Properties"]["ServiceToken"]["Fn::GetAtt"][0]]
                assert function["Properties"]["Timeout"] + 60 <= resource["Properties"]["ServiceTimeout"]


def test_queue_waits_long_enough() -> None:
    """A message stays hidden for six times the function's time-out, and goes elsewhere only after twelve hours."""
    queue = HUB["Resources"]["Queue"]["Properties"]
    assert queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"] == 12 * 3_600
    assert queue["VisibilityTimeout"] == 6 * HUB["Resources"]["ProcessFunction"]["Properties"]["Timeout"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}


@BOTH
def test_changes_wait_for_each_other(template: dict[str, Any]) -> None:
    """Events for set-up come by its queue only, which hides a message for longer than tries of two runs at most take.

    Nothing takes of it any more when set-up undoes all.
    """
    queue, batches = (template["Resources"][name] for name in ("ChangesQueue", "SetupBatches"))
    timeout = template["Resources"]["SetupFunction"]["Properties"]["Timeout"]
    window = batches["Properties"]["MaximumBatchingWindowInSeconds"]
    assert queue["Properties"]["VisibilityTimeout"] == 6 * timeout + window
    assert batches["Properties"]["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert batches["DependsOn"] == "SetUp"
    rules = resources(template, "AWS::Events::Rule")
    called = {name for name, each in rules.items() if "SetupFunction" in strings(each["Properties"]["Targets"])}
    queued = {name for name, each in rules.items() if "ChangesQueue" in strings(each["Properties"]["Targets"])}
    assert called == {"SetupSchedule"}
    assert queued == {"ReplicationChanged", "AgentAnnounces" if template is HUB else "HubTells"}
    assert {rules[name]["DependsOn"] for name in queued} == {"ChangesQueuePolicy"}
    permitted = resources(template, "AWS::Lambda::Permission").values()
    callers = [each["Properties"]["SourceArn"] for each in permitted if "SetupFunction" in strings(each)]
    assert callers == [{"Fn::GetAtt": ["SetupSchedule", "Arn"]}]


@BOTH
def test_only_the_stacks_own_rules_send_changes(template: dict[str, Any]) -> None:
    """Into set-up's queue only rules of the stack's own bus may send."""
    (statement,) = template["Resources"]["ChangesQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    source = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/${Bus}/*"
    assert statement["Condition"] == {"ArnLike": {"aws:SourceArn": {"Fn::Sub": source}}}
    alarms = resources(template, "AWS::CloudWatch::Alarm").values()
    assert any("ChangesQueue" in strings(each["Properties"].get("Dimensions", [])) for each in alarms)


def test_alarms_cannot_go_to_the_managed_key() -> None:
    """No topic uses alias/aws/sns, with which EventBridge, S3 and alarms cannot publish."""
    assert [each for each in strings(HUB["Resources"]) if "alias/aws/sns" in each and " " not in each] == []


@BOTH
def test_page_of_permissions(template: dict[str, Any]) -> None:
    """The page has each statement once, below its role's heading, with its reason."""
    page = permissions.markdown(template)
    sections = {part.partition("\n")[0]: part for part in page.split("### ")[1:]}
    found = list(permissions.statements(template))
    assert list(sections) == list(dict.fromkeys(each.role for each in found))
    assert page.count("\n| `") == len(found)
    assert [each.sid for each in found if each.reason not in sections[each.role]] == []


HUB_MAY = {
    "ListBuckets": ["s3:ListAllMyBuckets"],
    "ReadReplicationRules": ["s3:GetBucketLocation", "s3:GetReplicationConfiguration"],
    "TellAgent": ["events:PutEvents"],
    "SeeUndelivered": ["sqs:GetQueueAttributes", "sqs:GetQueueUrl"],
    "AskForVersions": ["s3:GetObjectVersion"],
    "TellMissing": ["s3:ListBucket", "s3:ListBucketVersions"],
    "WriteCanaries": ["s3:DeleteObjectVersion", "s3:PutObject"],
    "FindCanaries": ["s3:ListBucketVersions"],
    "SeeObjectLock": ["s3:GetBucketObjectLockConfiguration"],
}
"""What the hub may do in an agent's account, with ``AGENT_VERSION`` 1. Where this changes, that has to be raised: so a
hub that needs what older agents do not allow says which have to be deployed again."""


def test_agents_version() -> None:
    """The version that agents tell of is that of what their role allows the hub."""
    found = {each.sid: sorted(each.actions) for each in permissions.statements(AGENT) if each.role == "HubRole"}
    assert (AGENT_VERSION, found) == (1, HUB_MAY)


@BOTH
def test_hub_roles(template: dict[str, Any]) -> None:
    """Set-up of the hub knows the roles that it tells agents of, and an agent tells of those that it lets in."""
    told = template["Resources"]["SetupFunction"]["Properties"]["Environment"]["Variables"]["CRR_MONITOR_HUB_ROLE_ARNS"]
    output = (
        {"Fn::Join": [",", {"Ref": "HubRoleArns"}]} if template is AGENT else HUB["Outputs"]["HubRoleArns"]["Value"]
    )
    assert told == output
