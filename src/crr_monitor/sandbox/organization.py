"""An organization of several accounts, which the emulator does not have, and what its members share.

IAM User Guide, "AWS global condition context keys" (``aws:PrincipalOrgID`` of who calls, ``aws:SourceOrgID`` of whose
resource a service calls for); CloudTrail User Guide, "Creating a trail for an organization": members' calls are logged,
members see the trail, and cannot change it; Organizations API Reference, "RegisterDelegatedAdministrator"; Lambda API
Reference, "FunctionCode": the bucket can be another account's, and whoever deploys needs to read the object.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crr_monitor.sandbox import iam, points, storage

if TYPE_CHECKING:
    from collections.abc import Callable

_evaluator = points.module("core.iam_evaluator")
_helpers = points.module("services.cloudformation.helpers")
_organizations = points.module("services.organizations")
_responses = points.module("core.responses")
_sns = points.module("services.sns")
_trails = points.module("services.cloudtrail")

_delegated: set[tuple[str, str]] = set()
"""Management account, and member that may act for it with StackSets."""

STACK_SETS = "member.org.stacksets.cloudformation.amazonaws.com"


def found(management: str, members: list[str]) -> str:
    """Make an organization of these accounts; returns its id."""
    with _responses.request_scope(management, "us-east-1"):
        _organizations._ensure_org()
        organization: dict[str, Any] = _organizations._orgs["self"]
        root = next(iter(_organizations._roots))
        for member in members:
            _organizations._accounts[member] = {
                "Id": member,
                "Arn": f"arn:aws:organizations::{management}:account/{organization['Id']}/{member}",
                "Email": f"{member}@example.com",
                "Name": member,
                "Status": "ACTIVE",
                "JoinedMethod": "CREATED",
                "JoinedTimestamp": int(time.time()),
                "Path": "/",
                "_ParentId": root,
            }
    for member in members:
        _organizations._orgs.set_scoped(member, None, "self", organization)
    return str(organization["Id"])


def management(account: str) -> str | None:
    """The management account of an account's organization, if that is another one."""
    organization = _organizations._orgs.get_scoped(account, None, "self")
    holder = organization["MasterAccountId"] if organization else None
    return None if holder in {None, account} else str(holder)


def accounts(holder: str, unit: str | None = None) -> set[str]:
    """The accounts of a management account's organization, or of a unit of it (the root is one) and those below it."""
    with _responses.request_scope(holder, "us-east-1"):
        parents = {name: str(each["_ParentId"]) for name, each in _organizations._accounts.items()}
        above = {name: str(each["_ParentId"]) for name, each in _organizations._ous.items()}

    def within(parent: str | None) -> bool:
        return parent is not None and (parent == unit or within(above.get(parent)))

    return {name for name, parent in parents.items() if unit is None or within(parent)}


def delegated(holder: str, account: str) -> bool:
    """Whether a member may manage stack sets for the whole organization."""
    return (holder, account) in _delegated


def _register(body: dict[str, Any]) -> Any:  # noqa: ANN401 - an HTTP answer
    holder, member = str(_responses.get_account_id()), str(body["AccountId"])
    if member not in accounts(holder) or body["ServicePrincipal"] != STACK_SETS:
        return _responses.error_response_json("InvalidInputException", "You specified an unsupported value.", 400)
    _delegated.add((holder, member))
    return _organizations._json(200, {})


def _forgetting(old: Callable[[], None]) -> Callable[[], None]:
    def reset() -> None:
        old()
        _delegated.clear()

    return reset


def trails(account: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Home Region, name and record of the organization trails that log a member's calls."""
    holder = management(account)
    return [
        (region, name, trail)
        for (owner, region, name), trail in _trails._trails.all_items()
        if owner == holder and trail.get("IsOrganizationTrail")
    ]


def visible(old: Callable[..., Any]) -> Callable[..., Any]:
    """DescribeTrails and ListTrails show members the organization's trail."""

    def items(*, include_shadow_trails: bool = True) -> list[Any]:
        here = _responses.get_region()
        own = list(old(include_shadow_trails=include_shadow_trails))
        shared = [
            (region, name, trail)
            for region, name, trail in trails(_responses.get_account_id())
            if region == here or (include_shadow_trails and trail.get("IsMultiRegionTrail"))
        ]
        return own + shared

    return items


def readable(old: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """GetTrail, GetTrailStatus and GetEventSelectors take the ARN of the organization's trail from members."""

    def get(body: dict[str, Any]) -> Any:  # noqa: ANN401 - an HTTP answer
        arn = body.get("Name") or body.get("TrailName") or ""
        for region, _, trail in trails(_responses.get_account_id()):
            if trail["TrailARN"] == arn:
                with _responses.request_scope(arn.split(":")[4], region):
                    return old(body)
        return old(body)

    return get


def readable_by(account: str, region: str, bucket: str, key: str) -> bool:
    """Whether a bucket's policy lets another account's deployer read an object."""
    role = f"arn:aws:iam::{account}:role/stacksets-exec"
    return iam.policy_allows(storage.policy(bucket), role, "s3:GetObject", f"arn:aws:s3:::{bucket}/{key}", region)


def template(old: Callable[..., tuple[str | None, Any]]) -> Callable[..., tuple[str | None, Any]]:
    """A template comes from another account's bucket, too, where the bucket's policy lets the caller read."""

    def resolve(request: dict[str, list[str]], body: str, url: str, label: str) -> tuple[str | None, Any]:
        given = request.get(url, [""])[0]
        bucket, _, key = urlsplit(given).path.lstrip("/").partition("/")
        account, region, owner = _responses.get_account_id(), _responses.get_region(), storage.owner(bucket)
        if not given or owner in {None, account}:
            return old(request, body, url, label)
        if not readable_by(account, region, bucket, key):
            return None, _helpers._error("ValidationError", "S3 error: Access Denied")
        with _responses.request_scope(owner, region):
            return old(request, body, url, label)

    return resolve


def code(old: Callable[..., bytes | None]) -> Callable[..., bytes | None]:
    """A function's code comes from another account's bucket only where the bucket's policy lets the deployer read."""

    def fetch(bucket: str, key: str, version_id: str | None = None) -> bytes | None:
        account, region, owner = _responses.get_account_id(), _responses.get_region(), storage.owner(bucket)
        if owner in {None, account}:
            return old(bucket, key, version_id)
        if not readable_by(account, region, bucket, key):
            message = (
                "Your access has been denied by S3, please make sure your request credentials have permission to"
                f" GetObject for {bucket}/{key}. S3 Error Code: AccessDenied. S3 Error Message: Access Denied"
            )
            raise ValueError(message)
        with _responses.request_scope(owner, region):
            return old(bucket, key, version_id)

    return fetch


def publishing(old: Callable[[str, str, str, str], bool]) -> Callable[[str, str, str, str], bool]:
    """Whether a topic's policy lets a service publish for an account, also where it asks for the organization."""

    def allows(topic_arn: str, service: str, source_arn: str, source_account: str) -> bool:
        topic = _sns._topic_by_arn_any_scope(topic_arn) or {}
        policy = topic.get("attributes", {}).get("Policy") or ""
        member = _organizations._orgs.get_scoped(source_account, None, "self")
        if "aws:SourceOrgID" not in policy or member is None:
            return old(topic_arn, service, source_arn, source_account)
        context = _evaluator.EvalContext(
            principal_arn="*",
            principal_type="Service",
            principal_account="",
            action="sns:Publish",
            resource_arn=topic_arn,
            region=_responses.get_region(),
            service_context={
                "aws:sourcearn": source_arn,
                "aws:sourceaccount": source_account,
                "aws:sourceorgid": member["Id"],
            },
        )
        return bool(_evaluator.evaluate_resource_policy(policy, context, service=service).decision == "Allow")

    return allows


def install() -> None:
    """Put all of it in the place of the emulator's behaviour."""
    _organizations._DISPATCH["RegisterDelegatedAdministrator"] = _register
    points.replace("services.organizations", "reset", _forgetting)
    points.replace("services.cloudtrail", "_visible_trail_items", visible)
    points.replace("services.cloudtrail", "_get_trail", readable)
    points.replace("services.cloudtrail", "_get_trail_status", readable)
    points.replace("services.cloudtrail", "_get_event_selectors", readable)
    points.replace("services.cloudformation.helpers", "_resolve_document", template)
    points.replace("services.lambda_svc", "_fetch_code_from_s3", code)
    points.replace("services.sns", "topic_policy_allows", publishing)
