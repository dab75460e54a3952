"""From what a function is told to the sessions with which it reaches S3, in its account and through agents' roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.aws.probe import PATH_STYLE
from crr_monitor.aws.sessions import Sessions
from crr_monitor.stores.dynamodb_tables import parse_address

if TYPE_CHECKING:
    from collections.abc import Mapping


def reach(function_arn: str, store: str, role_name: str, options: Mapping[str, Any]) -> tuple[Sessions, str]:
    """Sessions of the function's account, and its Region; an endpoint in the store's address holds for S3, too."""
    _, partition, _, region, account, *_ = function_arn.split(":")
    endpoint = parse_address(store).endpoint
    sessions = Sessions(
        account,
        partition=partition,
        role_name=role_name,
        endpoint_url=endpoint,
        options=options if endpoint is None else {**options, **PATH_STYLE},
    )
    return sessions, region
