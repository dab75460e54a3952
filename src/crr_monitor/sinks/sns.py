"""Notices to an SNS topic, as text that e-mail and chat show as it is."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

from crr_monitor.sinks.senders import SendError

if TYPE_CHECKING:
    from crr_monitor.core.notices import Notice

MESSAGE_BYTES = 200_000
"""A little less than a message may have (API Reference, ``Publish``: 256 KB)."""

OPTIONS: dict[str, Any] = {
    "retries": {"mode": "standard", "max_attempts": 4},
    "connect_timeout": 3,
    "read_timeout": 10,
}
"""For botocore's ``Config``."""

_KEY = "allow kms:GenerateDataKey* and kms:Decrypt on the topic's key to the role, or use a topic without a key"
_HINTS = {
    "AuthorizationError": "allow sns:Publish on this topic to the function's role, and in the topic's policy",
    "AccessDenied": "allow sns:Publish on this topic to the function's role, and in the topic's policy",
    "NotFound": "there is no such topic: deploy the hub's stack again, or correct AlarmTopicArn",
    "KMSAccessDenied": _KEY,
    "KMSDisabled": "enable the topic's key, or give the topic another one",
}


class Client(Protocol):
    """The part of boto3's SNS client that is used."""

    def publish(self, **request: Any) -> Any: ...  # noqa: ANN401, D102


class SnsSender:
    """One topic. Message attributes ``kind``, ``what``, ``source`` or ``account`` are there for filter policies."""

    def __init__(self, client: Client, topic_arn: str) -> None:
        self._client = client
        self._topic = topic_arn
        self._sdk = importlib.import_module("botocore.exceptions")

    @property
    def name(self) -> str:
        """The topic's ARN."""
        return self._topic

    def send(self, notice: Notice) -> None:
        """Publish; see :class:`crr_monitor.sinks.senders.Sender`."""
        text = notice.text.encode()[:MESSAGE_BYTES].decode("utf-8", "ignore")
        attributes = {"kind": notice.trouble.kind, "what": notice.what, "source": notice.trouble.source}
        attributes["account"] = notice.trouble.account if notice.trouble.kind == "undelivered" else ""
        try:
            self._client.publish(
                TopicArn=self._topic,
                Subject=notice.subject,
                Message=text,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value
                },
            )
        except self._sdk.ClientError as error:
            told = error.response.get("Error", {})
            code = told.get("Code", "")
            hint = f" ({_HINTS[code]})" if code in _HINTS else ""
            message = f"topic {self._topic}: {code}: {told.get('Message') or code}{hint}"
            raise SendError(message) from error
        except self._sdk.BotoCoreError as error:
            message = f"topic {self._topic}: {error} (check the network and the Region)"
            raise SendError(message) from error
