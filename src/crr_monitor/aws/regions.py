"""What follows from a Region's name: its partition, and whether accounts have to opt in to it."""

from __future__ import annotations

_DEFAULT = frozenset(
    {
        *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1"),
        *("eu-central-1", "eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1"),
        *("ap-south-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-southeast-1", "ap-southeast-2"),
    }
)
"""Enabled in every account.

Every Region since March 2019 is opt-in (Account Management Guide, "Enable or disable Regions").
"""

_PARTITIONS = (
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-isof-", "aws-iso-f"),
    ("eusc-", "aws-eusc"),
)


def partition_of(region: str) -> str:
    """``aws``, ``aws-cn``, ``aws-us-gov``...: the second field of an ARN."""
    return next((partition for start, partition in _PARTITIONS if region.startswith(start)), "aws")


def is_opt_in(region: str) -> bool:
    """Whether an account has to enable the Region first. Outside the commercial partition none is."""
    return partition_of(region) == "aws" and region not in _DEFAULT


def sns_to_sqs_supported(topic_region: str, queue_region: str) -> bool:
    """Whether SNS delivers from one Region to a queue in the other.

    SNS Developer Guide, "Cross-Region delivery": to and from opt-in Regions, but not from one opt-in Region to another.
    """
    return topic_region == queue_region or not (is_opt_in(topic_region) and is_opt_in(queue_region))


def sns_principal(topic_region: str) -> str:
    """The service that a queue's policy has to admit for topics of that Region (same page)."""
    return f"sns.{topic_region}.amazonaws.com" if is_opt_in(topic_region) else "sns.amazonaws.com"
