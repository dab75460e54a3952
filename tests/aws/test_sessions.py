"""How accounts are reached: whose role is asked for where, whatever happens to the Region in which a bucket is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("boto3")

from crr_monitor.aws.sessions import MOST_CLIENTS, AwsError, Sessions

OWN, OTHER = "111122223333", "444455556666"


class Client:
    """A client that only gives credentials."""

    def assume_role(self, **_request: Any) -> dict[str, Any]:  # noqa: ANN401
        """Credentials for an hour."""
        end = datetime.now(UTC) + timedelta(hours=1)
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
        return {"Credentials": {**dict.fromkeys(names, "x"), "Expiration": end}}


class Base:
    """A session of boto3 that notes in which Region each client was made."""

    def __init__(self, region_name: str | None) -> None:
        self.region_name = region_name
        self.made: list[tuple[str, str]] = []

    def client(self, service: str, *, region_name: str, **_options: Any) -> Client:  # noqa: ANN401
        """A client."""
        self.made.append((service, region_name))
        return Client()


@pytest.mark.parametrize(
    ("own", "bucket", "asked"),
    [
        ("us-east-1", "eu-west-1", "us-east-1"),
        ("us-east-1", "me-south-1", "us-east-1"),
        ("me-south-1", "eu-west-1", "eu-west-1"),
        ("me-south-1", "af-south-1", "me-south-1"),
        ("cn-north-1", "cn-northwest-1", "cn-north-1"),
        (None, "eu-west-1", "eu-west-1"),
    ],
)
def test_where_a_role_is_asked_for(own: str | None, bucket: str, asked: str) -> None:
    """A role is asked for in one's own Region, but not in an opt-in one that the other account may not have enabled."""
    base = Base(own)
    Sessions(OWN, role_name="asking", base=base).client("s3", bucket, OTHER)
    assert base.made == [("sts", asked), ("s3", bucket)]


def test_few_clients_stay() -> None:
    """However many accounts are asked, only the clients that were asked for last are kept."""
    base = Base("us-east-1")
    sessions = Sessions(OWN, role_name="asking", base=base)
    accounts = [f"{number:012d}" for number in range(MOST_CLIENTS)]
    clients = {account: sessions.client("s3", "eu-west-1", account) for account in accounts}
    made = len(base.made)
    # One more is that of STS, with which roles are asked for; so the first account's had to go.
    assert sessions.client("s3", "eu-west-1", accounts[1]) is clients[accounts[1]]
    assert len(base.made) == made
    assert sessions.client("s3", "eu-west-1", accounts[0]) is not clients[accounts[0]]
    assert sessions.client("s3", "eu-west-1", accounts[1]) is clients[accounts[1]]
    assert base.made[made:] == [("s3", "eu-west-1")]


def test_without_a_role() -> None:
    """Where no role is named, no other account is reached, and the text says so."""
    with pytest.raises(AwsError, match=f"no role is named through which account {OTHER}"):
        Sessions(OWN, base=Base("us-east-1")).client("s3", "eu-west-1", OTHER)


def test_every_region_takes_what_a_role_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK that would ask the global endpoint, whose credentials opt-in Regions refuse, asks the Region's own."""
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "legacy")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert Sessions(OWN).client("sts", "us-east-1").meta.endpoint_url == "https://sts.us-east-1.amazonaws.com"
