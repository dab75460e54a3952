"""Which buckets an account has, where they are, and which replication rules they have.

"Could not ask" is not "has no rules": a bucket whose configuration could not be read is given as such, with the reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.aws.sessions import AwsError, call, pages
from crr_monitor.core.topology import BucketConfig
from crr_monitor.core.topology_document import TopologyError, parse_topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crr_monitor.aws.sessions import Sessions

WORKERS = 16
PER_SECOND = 50.0
"""Calls per second and account: bucket configurations are read one by one, and other tools need the same limit."""

GIVE_UP = 3
"""After so many buckets of one Region in a row that did not answer, the others there are not asked."""

NO_CONFIGURATION = "ReplicationConfigurationNotFoundError"
GONE = "NoSuchBucket"


class Unknown(Struct, frozen=True):
    """A bucket of which something could not be asked.

    ``permission`` is the IAM action that is missing, if that is why.
    """

    bucket: str
    why: str
    permission: str | None = None

    def __str__(self) -> str:
        hint = f"; allow {self.permission} on this bucket (also in its bucket policy)" if self.permission else ""
        return f"bucket {self.bucket}: {self.why}{hint}"


class Discovery(Struct, frozen=True):
    """What one account told: all its buckets with their Regions, and the configurations of those that have rules."""

    account: str
    buckets: Mapping[str, str]
    configs: tuple[BucketConfig, ...] = ()
    unknown: tuple[Unknown, ...] = ()


class Pace:
    """Lets at most ``per_second`` calls begin, evenly, however many threads ask."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 1.0 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next call may begin."""
        with self._lock:
            now = self._clock()
            begin = max(now, self._next)
            self._next = begin + self._gap
        if begin > now:
            self._sleep(begin - now)


class _Silence:
    """Regions that do not answer: after some buckets there in a row the others are not asked, as each would wait long.

    A set-up that asks on through an outage runs out of its time, and then does nothing anywhere.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._errors: dict[str, AwsError] = {}

    def check(self, region: str) -> None:
        """Raise what the last bucket there said, if it is not worth asking any more."""
        if self._counts.get(region, 0) >= GIVE_UP:
            raise self._errors[region]

    def note(self, region: str | None, error: AwsError | None) -> None:
        """Whether a Region answered, as far as that is known."""
        if region is not None and error is not None and error.unreachable:
            self._counts[region] = self._counts.get(region, 0) + 1
            self._errors[region] = error
        elif region is not None:
            self._counts[region] = 0


def discover(sessions: Sessions, region: str, account: str | None = None, pace: Pace | None = None) -> Discovery:
    """Ask an account for all its buckets and their replication rules; ``region`` is where the first question is put.

    Raises:
        AwsError: the buckets could not be listed, so nothing is known.
    """
    account = account or sessions.account
    pace, silence = pace or Pace(PER_SECOND), _Silence()
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="discover") as pool:
        listed = list(_list_buckets(sessions.client("s3", region, account)))
        answers = list(pool.map(lambda row: _ask(sessions, account, (pace, silence), region, row), listed))
    return Discovery(
        account,
        {bucket: place for bucket, place, _ in answers if place is not None},
        tuple(answer for _, _, answer in answers if isinstance(answer, BucketConfig)),
        tuple(answer for _, _, answer in answers if isinstance(answer, Unknown)),
    )


def _list_buckets(client: Any) -> Iterable[tuple[str, str | None]]:  # noqa: ANN401
    # Without a page size AWS answers in one page that has no Regions (API Reference, "ListBuckets").
    for page in pages("s3:ListBuckets", client, "list_buckets", PaginationConfig={"PageSize": 1_000}):
        for bucket in page.get("Buckets", []):
            yield bucket["Name"], bucket.get("BucketRegion")


def _ask(
    sessions: Sessions, account: str, limits: tuple[Pace, _Silence], region: str, row: tuple[str, str | None]
) -> tuple[str, str | None, BucketConfig | Unknown | None]:
    (bucket, place), (pace, silence) = row, limits
    action = "s3:GetBucketLocation"
    try:
        if place is None:
            pace.wait()
            place = _location(sessions.client("s3", region, account), bucket)
        action = "s3:GetReplicationConfiguration"
        silence.check(place)
        pace.wait()
        client = sessions.client("s3", place, account)
        told = call(f"s3:GetBucketReplication in {place}", client.get_bucket_replication, Bucket=bucket)
        silence.note(place, None)
        return bucket, place, _config(bucket, account, place, told)
    except AwsError as error:
        silence.note(place, error)
        if error.code in {NO_CONFIGURATION, GONE}:
            return bucket, place if error.code == NO_CONFIGURATION else None, None
        return bucket, place, Unknown(bucket, str(error), action if error.denied else None)


def _location(client: Any, bucket: str) -> str:  # noqa: ANN401
    told = call("s3:GetBucketLocation", client.get_bucket_location, Bucket=bucket).get("LocationConstraint")
    # API Reference, "GetBucketLocation": nothing means us-east-1, and EU is the old name of eu-west-1.
    return {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(told, str(told))


def _config(bucket: str, account: str, region: str, told: Mapping[str, Any]) -> BucketConfig | Unknown:
    entry = {
        "bucket": bucket,
        "account": account,
        "region": region,
        "ReplicationConfiguration": told.get("ReplicationConfiguration"),
    }
    try:
        return parse_topology([entry])[0][0]
    except TopologyError as error:
        return Unknown(bucket, f"its replication configuration is not understood: {error}")


def topology_entries(found: Iterable[Discovery], known: Iterable[str] = ()) -> list[tuple[BucketConfig, bool]]:
    """What a store has to learn.

    Rules, the places of their destinations, and that ``known`` sources have no rules any more.

    Of a bucket that could not be asked only the place is told, so that what is known of its rules stays.
    """
    found = list(found)
    configs = {config.bucket: config for discovery in found for config in discovery.configs}
    unknown = {each.bucket for discovery in found for each in discovery.unknown}
    wanted = {rule.destination for config in configs.values() for rule in config.rules}.union(known)
    for discovery in found:
        for bucket in sorted(wanted & discovery.buckets.keys() - configs.keys()):
            place = (bucket, discovery.account, discovery.buckets[bucket])
            configs[bucket] = BucketConfig(*place, place_only=bucket in unknown)
    return [(configs[bucket], False) for bucket in sorted(configs)]
