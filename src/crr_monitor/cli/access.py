"""The options with which commands reach AWS, who one is there, and what to do when AWS refuses."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import Struct

from crr_monitor.aws.sessions import AwsError, Sessions, call
from crr_monitor.cli.session import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

F = TypeVar("F", bound="Callable[..., Any]")

NEEDS_AWS = "\b\n    It needs the extra aws: pip install 'crr-monitor[aws]'"
SIGN_IN = "sign in (`aws sso login`, `aws configure`), or name a profile with --profile"

SOMEBODY_ELSE = (
    "somebody else changes the same at this moment: wait until that is over, then run the same command again"
)
BUSY = "AWS is busy, or too much is asked of it at once: run the same command again in a minute"

_BY_CODE = {
    "ExpiredToken": "the credentials have expired: " + SIGN_IN,
    "ExpiredTokenException": "the credentials have expired: " + SIGN_IN,
    "RequestExpired": "the credentials have expired, or this machine's clock is wrong",
    "SignatureDoesNotMatch": "the secret key is wrong: " + SIGN_IN,
    "InvalidAccessKeyId": "the access key does not exist: " + SIGN_IN,
    "InvalidChangeSetStatus": SOMEBODY_ELSE,
    "ChangeSetNotFound": SOMEBODY_ELSE,
    "AlreadyExistsException": SOMEBODY_ELSE,
    "BucketAlreadyExists": "another account has a bucket of that name: name one of yours with --artifacts-bucket",
    "OperationAborted": SOMEBODY_ELSE,
    "LimitExceededException": "a quota of this account is used up: remove something, or ask for more in Service Quotas",
    "TooManyBuckets": "a quota of this account is used up: remove something, or ask for more in Service Quotas",
    **dict.fromkeys(("Throttling", "ThrottlingException", "RequestLimitExceeded", "SlowDown", "503"), BUSY),
    "OptInRequired": "enable the Region for this account first, or name another one with --region",
}
_INVALID = frozenset({"InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure", "InvalidToken"})
_BY_CAUSE = {
    "NoCredentialsError": SIGN_IN,
    "PartialCredentialsError": SIGN_IN,
    "CredentialRetrievalError": SIGN_IN,
    "TokenRetrievalError": SIGN_IN,
    "SSOTokenLoadError": SIGN_IN,
    "UnauthorizedSSOTokenError": SIGN_IN,
    "LoginRefreshRequired": SIGN_IN,
    "ProfileNotFound": "`aws configure list-profiles` shows which there are",
    "InvalidRegionError": "a Region looks like us-east-1: --region",
}
_UNREACHED = frozenset({"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"})


class Target(Struct, frozen=True):
    """The options as they were given."""

    region: str | None
    profile: str | None
    endpoint_url: str | None

    def arguments(self) -> list[str]:
        """The same as arguments of another command; the Region is left to it."""
        given = (("--profile", self.profile), ("--endpoint-url", self.endpoint_url))
        return [part for name, value in given if value for part in (name, value)]


class Access(Struct, frozen=True):
    """Who one is: account, Region and partition, and the way to make clients."""

    sessions: Sessions
    account: str
    region: str
    partition: str

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3's client
        """The client of a service in the chosen Region."""
        return self.sessions.client(service, self.region)

    def __str__(self) -> str:
        return f"account {self.account}, {self.region}"


def aws_options(function: F) -> F:
    """Add ``--region``, ``--profile`` and ``--endpoint-url`` to a command."""
    for option in (
        click.option("--endpoint-url", metavar="URL", help="A local AWS, to which all calls go."),
        click.option(
            "--profile",
            metavar="NAME",
            help="The profile with the credentials. Default: as the AWS CLI has.",
        ),
        click.option("--region", metavar="REGION", help="The AWS Region. Default: the profile's."),
    ):
        function = option(function)
    return function


def require_aws(what: str) -> None:
    """End with an error that says what to install, where boto3 is missing."""
    if importlib.util.find_spec("boto3") is None:
        message = f"{what} needs boto3: pip install 'crr-monitor[aws]'"
        raise CommandError(message)


def connect(target: Target) -> Access:
    """Find out who one is.

    Raises:
        CommandError: no credentials, no Region, or AWS does not know them; with what to do.
    """
    require_aws("this command")
    with explained(target.region, target.endpoint_url):
        session = importlib.import_module("boto3").Session
        base = call("the profile", session, profile_name=target.profile, region_name=target.region)
        region = base.region_name
        if not region:
            message = "no Region is known: name one with --region, or set AWS_DEFAULT_REGION"
            raise CommandError(message)
        # Few tries: what is wrong here is mostly a name, and somebody waits for the answer.
        config = importlib.import_module("botocore.config").Config(
            connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2}
        )
        options = {"service_name": "sts", "endpoint_url": target.endpoint_url, "config": config}
        client = call("sts", base.client, **options)
        told = call("sts:GetCallerIdentity", client.get_caller_identity)
    account, partition = str(told["Account"]), str(told["Arn"]).split(":")[1]
    sessions = Sessions(account, partition=partition, endpoint_url=target.endpoint_url, base=base)
    return Access(sessions, account, region, partition)


@contextmanager
def explained(region: str | None = None, endpoint_url: str | None = None) -> Iterator[None]:
    """Within it, what AWS refuses becomes one line with what to do."""
    try:
        yield
    except AwsError as error:
        hint = _hint(error, region, endpoint_url)
        raise CommandError(f"{error}" + (f" ({hint})" if hint else "")) from error


def _hint(error: AwsError, region: str | None, endpoint_url: str | None) -> str:
    cause = type(error.__cause__).__name__
    if error.denied:
        return "allow this action to the user or role of these credentials, or use others with --profile"
    if error.code in _INVALID:
        place = f" in {region}: the Region may have to be enabled for this account, or" if region else ":"
        return f"the credentials are not valid{place} {SIGN_IN}"
    if cause in _UNREACHED:
        return _unreached(region, endpoint_url)
    return _BY_CODE.get(error.code) or _BY_CAUSE.get(cause, "")


def _unreached(region: str | None, endpoint_url: str | None) -> str:
    if endpoint_url:
        return "is something listening at --endpoint-url?"
    known = _known_regions()
    if region and region not in known:
        near = difflib.get_close_matches(region, known, 4)
        # Letters in a wrong order are the most frequent mistake.
        near.sort(key=lambda name: sorted(name) != sorted(region))
        return f"is there a Region {region}?" + (f" did you mean {near[0]}?" if near else "")
    return "check the network, and a proxy if there is one"


def _known_regions() -> list[str]:
    session = importlib.import_module("boto3").Session(region_name="us-east-1")
    partitions = session.get_available_partitions()
    return [name for each in partitions for name in session.get_available_regions("cloudformation", each)]


def confirm(question: str) -> None:
    """Ask on standard error, and end unless the answer is yes."""
    click.echo(f"{question} [y/N]: ", err=True, nl=False)
    answer = sys.stdin.readline()
    if not answer:
        click.echo("", err=True)
        message = "nothing was changed: nobody answered; -y goes on without asking"
    elif answer.strip().lower() in {"y", "yes"}:
        return
    else:
        message = "nothing was changed"
    raise CommandError(message)
