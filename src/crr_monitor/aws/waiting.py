"""Events that rules and topics of this account could not deliver: they wait in one dead-letter queue per Region.

CloudWatch alarms see only metrics of their own Region, so the number is asked for here and published in the hub's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from crr_monitor.aws.record import REGIONS
from crr_monitor.aws.regional import NO_QUEUE
from crr_monitor.aws.sessions import AwsError, call

if TYPE_CHECKING:
    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.record import Record
    from crr_monitor.aws.sessions import Sessions

_NUMBER = "ApproximateNumberOfMessages"


class Waiting(NamedTuple):
    """How many wait, by Region; Regions that could not be asked, with why; and those that are out of reach."""

    found: dict[str, int]
    problems: list[str]
    out_of_reach: list[str]


def undelivered(sessions: Sessions, stack: Stack, record: Record) -> Waiting:
    """How many wait in each Region in which set-up has made something.

    A queue that is not there holds nothing. Raises ``AwsError`` where it is not known which Regions there are.
    """
    found: dict[str, int] = {}
    problems: list[str] = []
    out_of_reach: list[str] = []
    for region in sorted(record.get(REGIONS) or ()):
        try:
            found[region] = waiting(sessions, stack.undelivered, region)
        except AwsError as error:
            text = f"queue {stack.undelivered} in {region} could not be asked: {error}"
            (out_of_reach if error.unreachable else problems).append(text)
    return Waiting(found, problems, out_of_reach)


def waiting(sessions: Sessions, queue: str, region: str, account: str | None = None) -> int:
    """About how many messages wait in a queue, 0 where there is no such queue; raises ``AwsError``."""
    client = sessions.client("sqs", region, account)
    try:
        url = call("sqs:GetQueueUrl", client.get_queue_url, QueueName=queue)["QueueUrl"]
        request = {"QueueUrl": url, "AttributeNames": [_NUMBER]}
        answer = call("sqs:GetQueueAttributes", client.get_queue_attributes, **request)
    except AwsError as error:
        if error.code in NO_QUEUE:
            return 0
        raise
    return int(answer["Attributes"][_NUMBER])
