"""Who may do what, asked of the emulator's own policy evaluator.

A role that exists is always evaluated. One that does not exist is refused while the sandbox enforces IAM, and taken as
almighty otherwise, so that tests of other things need no roles.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import json
from typing import Any

from crr_monitor.sandbox import points
from crr_monitor.sandbox.model import unique_id

_app = points.module("app")
_evaluator = points.module("core.iam_evaluator")
_iam = points.module("services.iam")


def _parts(role_arn: str) -> tuple[str, str]:
    """Account and name of a role."""
    fields = role_arn.split(":")
    return (fields[4] if len(fields) > 4 else ""), role_arn.rsplit("/", 1)[-1]  # noqa: PLR2004 - arn:aws:iam::ACCOUNT:role/x


def role(role_arn: str) -> dict[str, Any] | None:
    """The role's record, or ``None`` when there is no such role."""
    account, name = _parts(role_arn)
    record: dict[str, Any] | None = _iam._roles.get_scoped(account, None, name)
    return record


def role_id(role_arn: str) -> str | None:
    """``AROA...`` of an existing role."""
    record = role(role_arn)
    return None if record is None else str(record["RoleId"])


def assumable(role_arn: str, service: str) -> bool:
    """Whether the role's trust policy lets an AWS service assume it (IAM User Guide, "service roles")."""
    record = role(role_arn)
    if record is None:
        return not _app.AUTH
    document = record.get("AssumeRolePolicyDocument") or "{}"
    statements = (json.loads(document) if isinstance(document, str) else document).get("Statement", [])
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal")
        actions = statement.get("Action", [])
        named = principal.get("Service", []) if isinstance(principal, dict) else []
        if (
            statement.get("Effect") == "Allow"
            and service in ([named] if isinstance(named, str) else named)
            and "sts:AssumeRole" in ([actions] if isinstance(actions, str) else actions)
        ):
            return True
    return False


def _context(role_arn: str, action: str, resource: str, region: str) -> Any:  # noqa: ANN401 - the evaluator's own class
    account, name = _parts(role_arn)
    return _evaluator.EvalContext(
        principal_arn=f"arn:aws:sts::{account}:assumed-role/{name}/session",
        principal_type="AssumedRole",
        principal_account=account,
        action=action,
        resource_arn=resource,
        region=region,
        secure_transport=True,  # a service calls for the role, and services use TLS
    )


def role_allows(  # noqa: PLR0913, PLR0917 - who, what, where
    role_arn: str, action: str, resource: str, region: str, policy: str | None = None, owner: str | None = None
) -> bool:
    """Whether the role may do ``action``: its policies, its boundary, and the resource's policy of another owner."""
    account, name = _parts(role_arn)
    context = _context(role_arn, action, resource, region)
    if role(role_arn) is None:
        if _app.AUTH:
            return False
        if not policy:
            return owner in {None, account}
        decision = _evaluator.evaluate_resource_policy(policy, context).decision
        return bool(decision == "Allow" or (decision != "Deny" and owner in {None, account}))
    limits = _evaluator._permissions_boundary(_iam._roles, name, account)
    identity = _evaluator.evaluate(context, _evaluator._gather_role_policies(name, account), *limits)
    combined = _evaluator.combine_resource_policy(identity, context, policy, owner, limits=tuple(limits))
    return bool(combined.decision == "Allow")


def policy_allows(policy: str | dict[str, Any] | None, role_arn: str, action: str, resource: str, region: str) -> bool:
    """Whether a resource's policy lets the role's account in."""
    if policy is None:
        return False
    context = _context(role_arn, action, resource, region)
    return bool(_evaluator.evaluate_resource_policy(policy, context).decision == "Allow")


def session(account: str, role_arn: str, name: str, invoked_by: str) -> dict[str, Any]:
    """CloudTrail's ``userIdentity`` of a role's session that a service opened (shape: captured replica writes)."""
    principal = role_id(role_arn) or unique_id("AROA", role_arn)
    issuer = {
        "type": "Role",
        "principalId": principal,
        "arn": role_arn,
        "accountId": account,
        "userName": _parts(role_arn)[1],
    }
    return {
        "type": "AssumedRole",
        "principalId": f"{principal}:{name}",
        "arn": f"arn:aws:sts::{account}:assumed-role/{_parts(role_arn)[1]}/{name}",
        "accountId": account,
        "sessionContext": {"sessionIssuer": issuer, "attributes": {"mfaAuthenticated": "false"}},
        "invokedBy": invoked_by,
    }
