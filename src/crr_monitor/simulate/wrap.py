"""The envelopes in which messages travel: EventBridge, SNS, SQS, and what Lambda makes of both."""

from __future__ import annotations

from hashlib import md5
from typing import TYPE_CHECKING

from crr_monitor.simulate.texts import Ids, milliseconds, quote, whole_seconds

if TYPE_CHECKING:
    from crr_monitor.simulate.world import Place

_SIGNATURE = (
    "EXAMPLEpH+DcEwjAPg8O9mY8dReBSwksfg2S7WKQcikcNKWLQjwu6A4VbeS0QHVCkhRS7fUQvi2egU3N858fiTDN6bkkOxYDVrY0Ad8L10Hs3zH81mt"
    "nPk5uvvolIC1CXGu43obcgFxeL3khZl8IKvO61GWB6jI9b5+gLPoBc1Q="
)


def via_cloudtrail(text: str, ids: Ids, at: int, place: Place, service: str) -> str:
    """A CloudTrail record in the envelope in which EventBridge forwards it."""
    return (
        f'{{"version":"0","id":"{ids.uuid(0)}","detail-type":"AWS API Call via CloudTrail","source":"{service}",'
        f'"account":"{place.account}","time":"{whole_seconds(at)}","region":"{place.region}","resources":[],'
        f'"detail":{text}}}'
    )


def sns(text: str, ids: Ids, at: int, place: Place) -> str:
    """What SNS posts to a queue or a URL."""
    topic = f"arn:aws:sns:{place.region}:{place.account}:s3-events"
    return (
        f'{{"Type":"Notification","MessageId":"{ids.uuid(0)}","TopicArn":"{topic}",'
        f'"Subject":"Amazon S3 Notification","Message":{quote(text)},"Timestamp":"{milliseconds(at)}",'
        f'"SignatureVersion":"1","Signature":"{_SIGNATURE}","SigningCertURL":'
        f'"https://sns.{place.region}.amazonaws.com/SimpleNotificationService-example.pem","UnsubscribeURL":'
        f'"https://sns.{place.region}.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={topic}:{ids.uuid(32)}"}}'
    )


def sqs(text: str, ids: Ids, at: int) -> str:
    """One message as ``ReceiveMessage`` returns it."""
    return (
        f'{{"MessageId":"{ids.uuid(32)}","ReceiptHandle":"AQEB{ids.extended_id}","MD5OfBody":"{_md5(text)}",'
        f'"Body":{quote(text)},"Attributes":{{"SenderId":"AIDAEXAMPLESENDER0000","ApproximateReceiveCount":"1",'
        f'"SentTimestamp":"{at}","ApproximateFirstReceiveTimestamp":"{at + 14}"}}}}'
    )


def lambda_sns(text: str, ids: Ids, at: int, place: Place) -> str:
    """The event of a function that subscribes to a topic: one record each."""
    topic = f"arn:aws:sns:{place.region}:{place.account}:s3-events"
    return (
        f'{{"Records":[{{"EventSource":"aws:sns","EventVersion":"1.0","EventSubscriptionArn":"{topic}:{ids.uuid(32)}",'
        f'"Sns":{{"Type":"Notification","MessageId":"{ids.uuid(0)}","TopicArn":"{topic}",'
        f'"Subject":"Amazon S3 Notification","Message":{quote(text)},"Timestamp":"{milliseconds(at)}",'
        f'"SignatureVersion":"1","Signature":"{_SIGNATURE}","SigningCertUrl":'
        f'"https://sns.{place.region}.amazonaws.com/SimpleNotificationService-example.pem","UnsubscribeUrl":'
        f'"https://sns.{place.region}.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={topic}:{ids.uuid(32)}",'
        f'"MessageAttributes":{{}}}}}}]}}'
    )


def lambda_sqs_entry(text: str, ids: Ids, at: int, place: Place) -> str:
    """One message in the batch that a function receives from its queue."""
    return (
        f'{{"messageId":"{ids.uuid(32)}","receiptHandle":"AQEB{ids.extended_id}","body":{quote(text)},'
        f'"attributes":{{"ApproximateReceiveCount":"1","SentTimestamp":"{at}","SenderId":"AIDAEXAMPLESENDER0000",'
        f'"ApproximateFirstReceiveTimestamp":"{at + 14}"}},"messageAttributes":{{}},"md5OfBody":"{_md5(text)}",'
        f'"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:{place.region}:{place.account}:s3-events",'
        f'"awsRegion":"{place.region}"}}'
    )


def lambda_sqs(entries: list[str]) -> str:
    """The event of a function that reads a queue: a batch of messages."""
    return f'{{"Records":[{",".join(entries)}]}}'


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()
