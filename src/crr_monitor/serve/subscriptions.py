"""Confirming that topics of SNS send here: only topics that were named, and only at SNS itself.

SNS posts a token to a new subscriber and sends nothing else before somebody has brought the token back (Developer
Guide, "HTTP/HTTPS subscription confirmation JSON format"). The message also names an address for that. It is not used:
whoever may send here could name any, so the address is made of the topic's own Region.
"""

from __future__ import annotations

import http.client
import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TYPE_HEADER = "x-amz-sns-message-type"
"""In it SNS says what a message is (Developer Guide, "HTTP/HTTPS headers")."""
CONFIRMATION = "SubscriptionConfirmation"

TOPIC = re.compile(r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]+)+-\d):\d{12}:[A-Za-z0-9_-]{1,256}")
TIMEOUT_SECONDS = 10.0

_SUFFIXES = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
_OK = 200
_SHOWN = 200


class SubscriptionError(Exception):
    """A subscription was not confirmed; the text says why. ``allowed`` is false for a topic that was not named."""

    def __init__(self, text: str, *, allowed: bool = True) -> None:
        super().__init__(text)
        self.allowed = allowed


class _Message(Struct, frozen=True):
    """What is needed of the message."""

    type_: str = field(name="Type")
    topic: str = field(name="TopicArn")
    token: str = field(name="Token")


def is_topic(text: str) -> bool:
    """Whether this is the ARN of a topic that can send over HTTP; those in strict order (FIFO) cannot."""
    return TOPIC.fullmatch(text) is not None


class Subscriptions:
    """The topics that may send here (:func:`is_topic`). ``say`` is told what was confirmed.

    ``endpoint_url`` is that of a local AWS.
    """

    def __init__(self, topics: Iterable[str], say: Callable[[str], None], endpoint_url: str | None = None) -> None:
        self._topics = frozenset(topics)
        self._say = say
        self._endpoint = endpoint_url

    def __bool__(self) -> bool:
        """Whether any topic was named."""
        return bool(self._topics)

    def confirm(self, body: bytes) -> None:
        """Bring back the token of a message; it waits for SNS.

        Raises:
            SubscriptionError: the message is none of a topic that was named, or SNS did not take the token.
        """
        try:
            message = msgspec.json.decode(body, type=_Message)
        except msgspec.MsgspecError as error:
            text = f"this is no confirmation of a subscription as SNS sends it: {error}"
            raise SubscriptionError(text, allowed=False) from error
        if message.type_ != CONFIRMATION or message.topic not in self._topics:
            text = f"topic {message.topic[:_SHOWN]} may not send here: name it with --sns-topic"
            raise SubscriptionError(text, allowed=False)
        self._visit(message)
        self._say(f"topic {message.topic}: its subscription is confirmed")

    def _visit(self, message: _Message) -> None:
        base = urlsplit(self._endpoint or _address(message.topic))
        kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
        connection = kind(base.hostname or "", base.port, timeout=TIMEOUT_SECONDS)
        query = urlencode({"Action": "ConfirmSubscription", "TopicArn": message.topic, "Token": message.token})
        try:
            connection.request("GET", f"/?{query}")
            answer = connection.getresponse()
            if answer.status == _OK:
                return
            said = answer.read(_SHOWN).decode("utf-8", "replace")
            reason = f"it answered {answer.status}: {' '.join(said.split())}"
        except ssl.SSLCertVerificationError as error:
            reason = f"its certificate is not valid: {error.verify_message}"
        except (OSError, http.client.HTTPException) as error:
            reason = f"{type(error).__name__}, no answer (check the network)"
        finally:
            connection.close()
        text = f"SNS ({base.hostname}) did not confirm the subscription of {message.topic}: {reason}"
        raise SubscriptionError(text)


def _address(topic: str) -> str:
    """Of SNS in the Region of a topic."""
    found = TOPIC.fullmatch(topic)
    assert found is not None  # noqa: S101 - checked when it was named
    return f"https://sns.{found[2]}.{_SUFFIXES[found[1]]}/"
