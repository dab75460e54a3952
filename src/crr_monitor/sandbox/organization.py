"""An organization of several accounts, which the emulator does not have, and its trail as members see it.

IAM User Guide, "AWS global condition context keys" (``aws:PrincipalOrgID``); CloudTrail User Guide, "Creating a trail
for an organization": members' calls are logged, members see the trail, and cannot change it.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points

if TYPE_CHECKING:
    from collections.abc import Callable

_organizations = points.module("services.organizations")
_responses = points.module("core.responses")
_trails = points.module("services.cloudtrail")


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
