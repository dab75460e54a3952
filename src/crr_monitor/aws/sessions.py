"""Clients per account, Region and service: time-outs and retries set, other accounts through one named role.

boto3 is imported when the first client is made, so that importing this module costs nothing.
"""

from __future__ import annotations

import importlib
import re
import threading
import time
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from crr_monitor.aws.regions import is_opt_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "403"}
)
"""Error codes with which the services say that a permission is missing."""

OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 20,
    # Standard mode backs off with jitter, and stops retrying while everything fails.
    "retries": {"mode": "standard", "max_attempts": 6},
    "max_pool_connections": 32,
}
SESSION_SECONDS = 3_600
EARLY_SECONDS = 300
"""A role's credentials are replaced this long before they expire."""

MOST_CLIENTS = 200
"""So many are kept, those that were asked for last: each keeps some connections open, and Lambda lets a function have
1,024 files and connections (Developer Guide, "Lambda quotas"), from one run to the next."""


class AwsError(Exception):
    """A call to AWS that gave no answer: nothing is known of what was asked.

    The text names call, code and words of AWS.
    """

    def __init__(self, operation: str, code: str, text: str) -> None:
        super().__init__(f"{operation}: {code + ': ' if code else ''}{text}")
        self.operation = operation
        self.code = code
        self.text = text

    @property
    def denied(self) -> bool:
        """Whether a permission is missing."""
        return self.code in DENIED

    @property
    def unreachable(self) -> bool:
        """Whether nobody answered, or the service itself is in trouble: nothing that one could mend."""
        response = getattr(self.__cause__, "response", None) or {}
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        unanswered = not self.code and self.__cause__ is not None
        return unanswered or status >= HTTPStatus.INTERNAL_SERVER_ERROR


class MissingSdkError(AwsError):
    """boto3 is not installed."""

    def __init__(self) -> None:
        text = "boto3 is missing: install crr-monitor's extra 'aws'"
        operation = "import boto3"
        super().__init__(operation, "", text)


def _sdk(name: str) -> Any:  # noqa: ANN401 - a module of an optional package
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingSdkError from error


def call(operation: str, function: Callable[..., Any], **request: Any) -> Any:  # noqa: ANN401 - the SDK's own answers
    """Make one call.

    Raises:
        AwsError: AWS refused, or could not be reached. ``operation`` (``service:Operation``) says in it what was asked.
    """
    exceptions = _sdk("botocore.exceptions")
    try:
        return function(**request)
    except exceptions.ClientError as error:
        told = error.response.get("Error", {})
        raise AwsError(operation, str(told.get("Code", "")), str(told.get("Message", error))) from error
    except exceptions.BotoCoreError as error:
        raise AwsError(operation, "", str(error)) from error


def pages(operation: str, client: Any, method: str, **request: Any) -> Iterator[Any]:  # noqa: ANN401
    """All pages of a listing; raises as :func:`call` does."""
    found = iter(client.get_paginator(method).paginate(**request))
    while True:
        page = call(operation, lambda: next(found, None))
        if page is None:
            return
        yield page


class Sessions:
    """Makes clients and keeps them. Any thread may ask.

    ``account`` is the account of the process's own credentials; for every other one the role ``role_name`` there is
    assumed. ``endpoint_url`` sends everything to one address (tests, the sandbox). ``options`` are the
    clients'.
    """

    def __init__(  # noqa: PLR0913 - who one is, then options by name
        self,
        account: str,
        *,
        partition: str = "aws",
        role_name: str | None = None,
        endpoint_url: str | None = None,
        base: Any = None,  # noqa: ANN401 - a boto3.Session, whose package is optional
        options: Mapping[str, Any] = OPTIONS,
    ) -> None:
        self.account = account
        self._partition = partition
        self._role_name = role_name
        self._endpoint_url = endpoint_url
        self._base = base
        self._options = options
        self._lock = threading.RLock()
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._assumed: dict[str, tuple[Mapping[str, str], float]] = {}

    def client(self, service: str, region: str, account: str | None = None) -> Any:  # noqa: ANN401 - boto3's client
        """The client of a service in one Region, acting in ``account`` (default: one's own).

        Raises:
            AwsError: the role could not be assumed, or boto3 is missing.
        """
        account = account or self.account
        with self._lock:
            credentials = {} if account == self.account else self._other(account, region)
            key = (service, region, account)
            client = self._clients.pop(key, None) or self._make(service, region, credentials)
            self._clients[key] = client  # behind all that were asked for before
            if len(self._clients) > MOST_CLIENTS:
                self._clients.pop(next(iter(self._clients)))
            return client

    @property
    def base(self) -> Any:  # noqa: ANN401 - a boto3.Session
        """The session of one's own credentials; raises ``AwsError`` where boto3 is missing."""
        return self._own()

    def forget(self, account: str) -> None:
        """Assume the role in ``account`` anew at the next call: it may have been removed, or changed, since."""
        with self._lock:
            self._assumed.pop(account, None)
            self._clients = {key: client for key, client in self._clients.items() if key[2] != account}

    def _make(self, service: str, region: str, credentials: Mapping[str, str] = MappingProxyType({})) -> Any:  # noqa: ANN401
        """All clients are of one session, as each session keeps the services' descriptions: 14 MB for S3 alone."""
        config = _sdk("botocore.config").Config(**self._options, user_agent_extra="crr-monitor")
        client = self._own().client(
            service, region_name=region, endpoint_url=self._endpoint_url, config=config, **credentials
        )
        if self._endpoint_url is not None and service == "s3control":
            client.meta.events.register("before-sign", self._without_account)
        return client

    def _without_account(self, request: Any, **_others: Any) -> None:  # noqa: ANN401 - botocore's own
        """S3 Control's host names begin with the account, also where the endpoint is a local one, which has no such."""
        scheme, _, host = str(self._endpoint_url).partition("://")
        request.url = re.sub(rf"^{scheme}://[0-9]{{12}}\.(?={re.escape(host)})", f"{scheme}://", request.url)

    def _own(self) -> Any:  # noqa: ANN401
        if self._base is None:
            core = _sdk("botocore.session").get_session()
            # Versions before 1.40, and Lambda may have one, ask STS at its global endpoint, and no opt-in Region takes
            # what that gives (IAM User Guide, "Manage AWS STS in an AWS Region").
            core.set_config_variable("sts_regional_endpoints", "regional")
            self._base = _sdk("boto3").Session(botocore_session=core)
        return self._base

    def _other(self, account: str, region: str) -> Mapping[str, str]:
        """Credentials of the role in another account, as boto3 calls them."""
        credentials, expires = self._assumed.get(account, ({}, 0.0))
        if time.time() < expires - EARLY_SECONDS:
            return credentials
        if not self._role_name:
            text = f"no role is named through which account {account} could be reached"
            operation = "sts:AssumeRole"
            raise AwsError(operation, "", text)
        role = f"arn:{self._partition}:iam::{account}:role/{self._role_name}"
        told = call(
            f"sts:AssumeRole of {role}",
            self.client("sts", self._place(region)).assume_role,
            RoleArn=role,
            RoleSessionName="crr-monitor",
            DurationSeconds=SESSION_SECONDS,
        )["Credentials"]
        credentials = {
            "aws_access_key_id": told["AccessKeyId"],
            "aws_secret_access_key": told["SecretAccessKey"],
            "aws_session_token": told["SessionToken"],
        }
        self._assumed[account] = (credentials, told["Expiration"].timestamp())
        self._clients = {key: client for key, client in self._clients.items() if key[2] != account}
        return credentials

    def _place(self, region: str) -> str:
        """Where a role is asked for: in one's own Region, as what it gives is valid in every one.

        So an account is not out of reach as a whole because one Region is, in which it has a bucket. But an opt-in
        Region gives nothing for an account that has not enabled it (IAM User Guide, "Manage AWS STS in an AWS Region").
        """
        own = str(self._own().region_name or region)
        return region if is_opt_in(own) and not is_opt_in(region) else own
