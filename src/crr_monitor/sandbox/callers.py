"""Who calls S3: CloudTrail's ``userIdentity`` for a request.

CloudTrail User Guide, "CloudTrail userIdentity element".
"""

from __future__ import annotations

from typing import Any

from crr_monitor.sandbox import iam, points
from crr_monitor.sandbox.model import Requester, unique_id

_evaluator = points.module("core.iam_evaluator")
_responses = points.module("core.responses")
_router = points.module("core.router")


def _identity(account: str, arn: str, access_key: str) -> dict[str, Any]:
    resource = arn.rsplit(":", 1)[-1]
    if resource.startswith("assumed-role/"):
        _, role_name, name = resource.split("/", 2)
        role_arn = f"arn:aws:iam::{account}:role/{role_name}"
        identity = iam.session(account, role_arn, name, "")
        del identity["invokedBy"]
        return {**identity, "accessKeyId": access_key}
    common = {"arn": arn, "accountId": account, "accessKeyId": access_key}
    if resource.startswith("user/"):
        name = resource.rsplit("/", 1)[-1]
        return {"type": "IAMUser", "principalId": unique_id("AIDA", arn), "userName": name, **common}
    return {"type": "Root", "principalId": account, **common}


def requester(headers: dict[str, str], query: dict[str, list[str]]) -> Requester:
    """The caller of the request that is being served, in whose account the request still runs."""
    access_key = str(_router.extract_access_key_id(headers, query) or "")
    account = str(_responses.get_account_id())
    if not access_key:
        anonymous = {"type": "AWSAccount", "principalId": "", "accountId": "ANONYMOUS_PRINCIPAL"}
        return Requester("", anonymous, str(_responses.get_request_client_ip()))
    arn = str(_evaluator.request_caller_arn(headers, query))
    agent = f"[{headers.get('user-agent', 'Boto3')}]"
    return Requester(account, _identity(account, arn, access_key), str(_responses.get_request_client_ip()), agent)


def service(account: str) -> Requester:
    """A service of AWS that writes on its own behalf (Firehose, CloudTrail)."""
    return Requester(account, {"type": "AWSService", "invokedBy": "AWS Internal"}, "AWS Internal", "AWS Internal")
