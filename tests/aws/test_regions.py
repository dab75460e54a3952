"""Partitions and opt-in Regions."""

from __future__ import annotations

import pytest

from crr_monitor.aws.regions import is_opt_in, partition_of, sns_principal, sns_to_sqs_supported


@pytest.mark.parametrize(
    ("region", "partition", "opt_in"),
    [
        ("us-east-1", "aws", False),
        ("eu-north-1", "aws", False),
        ("ap-east-1", "aws", True),
        ("mx-central-1", "aws", True),
        ("cn-north-1", "aws-cn", False),
        ("us-gov-west-1", "aws-us-gov", False),
        ("us-isob-east-1", "aws-iso-b", False),
    ],
)
def test_regions(region: str, partition: str, opt_in: bool) -> None:  # noqa: FBT001 - a column of the table
    """A Region tells its partition, and every Region that is not one of the first seventeen has to be opted in to."""
    assert (partition_of(region), is_opt_in(region)) == (partition, opt_in)


@pytest.mark.parametrize(
    ("topic", "queue", "supported"),
    [
        ("us-east-1", "eu-west-1", True),
        ("me-south-1", "eu-west-1", True),
        ("eu-west-1", "me-south-1", True),
        ("me-south-1", "me-south-1", True),
        ("me-south-1", "af-south-1", False),
    ],
)
def test_sns_to_sqs(topic: str, queue: str, supported: bool) -> None:  # noqa: FBT001
    """SNS reaches a queue anywhere but from one opt-in Region in another."""
    assert sns_to_sqs_supported(topic, queue) is supported


def test_principal() -> None:
    """The queue's policy names an opt-in Region's SNS by that Region."""
    assert sns_principal("eu-west-1") == "sns.amazonaws.com"
    assert sns_principal("me-south-1") == "sns.me-south-1.amazonaws.com"
