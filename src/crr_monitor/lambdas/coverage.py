"""What the watch function saw of the hub's queue, to the archive's bucket: see :mod:`crr_monitor.sinks.coverage`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.aws.sessions import AwsError, Sessions, call
from crr_monitor.core.times import HOUR_MS, MINUTE_MS, SECOND_MS
from crr_monitor.sinks.coverage import Looks
from crr_monitor.stores.base import StoreError

if TYPE_CHECKING:
    from crr_monitor.lambdas.settings import WatchSettings
    from crr_monitor.stores.base import Store

_NUMBERS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
"""Messages that are received and come again are not taken out, either."""

_UNITS = {"minute": MINUTE_MS, "hour": HOUR_MS}


class Coverage:
    """Tells after each look, in files beside the archive, until when events were read."""

    def __init__(self, sessions: Sessions, region: str, settings: WatchSettings) -> None:
        """``settings.archive_place`` is not empty."""
        self._sessions = sessions
        self._region = region
        self._settings = settings
        url = settings.queue_url
        self._looks = Looks(
            monitor=settings.token,
            source=url.rpartition("/")[2],
            interval_ms=interval_ms(settings.interval),
            late_ms=settings.canary_late_seconds * SECOND_MS,
        )

    def tell(self, store: Store, now: int) -> list[str]:
        """One look; gives what could not be done, which is then not told to be watched, or written at the next look."""
        try:
            self._looks.tell(store, self._waiting(), now, self._put)
        except AwsError as error:
            cure = " (allow it to the function's role, also in the policies of bucket and key)" if error.denied else ""
            return [f"who watched is not in the archive: {error}{cure}"]
        except StoreError as error:
            return [f"who watched is not in the archive: {error}"]
        return []

    def _waiting(self) -> int:
        client = self._sessions.client("sqs", self._region)
        request = {"QueueUrl": self._settings.queue_url, "AttributeNames": list(_NUMBERS)}
        told = call("sqs:GetQueueAttributes", client.get_queue_attributes, **request)["Attributes"]
        return sum(int(told[name]) for name in _NUMBERS)

    def _put(self, below: str, lines: bytes) -> None:
        bucket, _, prefix = self._settings.archive_place.removeprefix("s3://").partition("/")
        key = self._settings.archive_key_arn
        encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}
        client = self._sessions.client("s3", self._region)
        request = {"Bucket": bucket, "Key": prefix + below, "Body": lines, **encrypted}
        call(f"s3:PutObject of s3://{bucket}/{prefix}{below}", client.put_object, **request)


def interval_ms(rate: str) -> int:
    """The milliseconds between two looks, of a schedule as the settings check it, as in ``rate(5 minutes)``."""
    number, unit = rate.removeprefix("rate(").removesuffix(")").split()
    return int(number) * _UNITS[unit.removesuffix("s")]
