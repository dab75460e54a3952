"""The stream: every fact told when it is delivered, late, twice and out of order, in one pass and little memory.

A heap holds what is known but not yet delivered. It grows with objects per second times the time that messages lag
behind, never with the number of objects; texts are only made when they leave.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from msgspec import Struct, field

from crr_monitor.core.times import SECOND_MS
from crr_monitor.simulate import cloudtrail, eventbridge, noise, notification, wrap
from crr_monitor.simulate.facts import Fact, What, facts
from crr_monitor.simulate.lives import Version, lives
from crr_monitor.simulate.plan import Plan, Wrapper
from crr_monitor.simulate.texts import Ids
from crr_monitor.simulate.world import Place, sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.simulate.dice import Dice

_MOST_IN_BATCH = 4
_SOONEST_MS = SECOND_MS
_OTHER_ACCOUNT_SHARE = 0.5


class _Entry(Struct, frozen=True, order=True, gc=False):
    """What will be delivered ``at``; compared by that and by ``number``, which no two share, so never further."""

    at: int
    number: int
    fact: Fact
    wrapper: Wrapper
    other_account: bool


class Message(Struct, frozen=True, gc=False):
    """A message as it is delivered, at ``at`` (milliseconds), to an account in a Region."""

    at: int
    body: bytes
    account: str
    region: str


class Tally(Struct):
    """What was delivered so far. ``events``, ``ignored`` and ``malformed`` count records within the messages."""

    messages: int = 0
    events: int = 0
    malformed: int = 0
    ignored: dict[str, int] = field(default_factory=dict)


class Stream:
    """The messages of a plan in the order of delivery; can be iterated once.

    ``versions`` is given where somebody wants to see each version pass (:func:`crr_monitor.simulate.lives.lives`).
    ``most_waiting`` is the largest number of undelivered facts so far: what the memory depends on.
    """

    def __init__(self, plan: Plan, versions: Iterable[tuple[Version, Dice]] | None = None) -> None:
        self.tally = Tally()
        self.most_waiting = 0
        self._plan = plan
        self._versions = lives(plan) if versions is None else versions
        self._heap: list[_Entry] = []
        self._number = 0
        self._batch: list[str] = []
        self._batch_end = (plan.start, sources(plan.pairs)[0].place)

    def __iter__(self) -> Iterator[Message]:
        """Deliver everything; a version is looked at when nothing of before its time is left to deliver."""
        heap = self._heap
        for version, dice in self._versions:
            slot = self._plan.slot(version.index)
            while heap and heap[0].at < slot:
                message = self._deliver(heappop(heap))
                if message is not None:
                    yield message
            self._expect(version, dice)
            self.most_waiting = max(self.most_waiting, len(heap))
        while heap:
            message = self._deliver(heappop(heap))
            if message is not None:
                yield message
        if self._batch:
            yield self._batched()

    def _expect(self, version: Version, dice: Dice) -> None:
        """Decide when, in what wrapper and how often each fact of the version will be delivered."""
        plan = self._plan
        wrappers: tuple[Wrapper, ...] = ("bare",) if plan.layout == "logs" else plan.wrappers
        for fact in facts(plan, version, dice):
            at = fact.at + _SOONEST_MS + dice.below(plan.reorder_ms)
            self._push(at, fact, wrappers[dice.below(len(wrappers))], other_account=False)
            if fact.what < What.NOISE and dice.chance(plan.duplicate_rate):
                at += dice.below(plan.reorder_ms)
                other = dice.chance(_OTHER_ACCOUNT_SHARE) and _crosses_accounts(fact)
                self._push(at, fact, wrappers[dice.below(len(wrappers))], other_account=other)

    def _push(self, at: int, fact: Fact, wrapper: Wrapper, *, other_account: bool) -> None:
        self._number += 1
        heappush(self._heap, _Entry(at, self._number, fact, wrapper, other_account))

    def _deliver(self, entry: _Entry) -> Message | None:
        """The message that tells a fact; None while the batch that it is in is not full."""
        at, number, fact, wrapper = entry.at, entry.number, entry.fact, entry.wrapper
        version = fact.version
        place = version.source.place
        if fact.copy is not None and (fact.what is What.REPLICA or version.kind == "cloudtrail"):
            place = fact.copy.destination.place  # S3's own failure messages come from the source
        recipient = version.source.place.account if entry.other_account else place.account
        ids = Ids.of(f"{self._plan.seed}/{version.index}/{fact.number}")
        if fact.what is What.MALFORMED:
            self.tally.malformed += 1
            return self._message(at, noise.malformed(fact, ids, self._plan.layout), recipient, place)
        text = self._text(fact, ids, recipient)
        if wrapper != "bare":
            if version.kind == "cloudtrail":
                service = "aws.ec2" if '"eventSource":"ec2.' in text else "aws.s3"
                text = wrap.via_cloudtrail(text, ids, fact.at, place, service)
            if wrapper == "lambda-sqs":
                return self._gather(at, number, wrap.lambda_sqs_entry(text, ids.sent(number), at, place), place)
            if wrapper != "eventbridge":
                text = _wrapped(text, wrapper, ids.sent(number), at, place)
        return self._message(at, text.encode(), recipient, place)

    def _text(self, fact: Fact, ids: Ids, recipient: str) -> str:
        if fact.what is What.NOISE:
            name, text = noise.ignored(fact, ids)
            self.tally.ignored[name] = self.tally.ignored.get(name, 0) + 1
            return text
        self.tally.events += 1
        kind = fact.version.kind
        if kind == "cloudtrail":
            return cloudtrail.record(fact, ids, recipient)
        if kind == "notification" or fact.what is What.FAILURE:
            return notification.message(fact, ids)
        return eventbridge.event(fact, ids)

    def _gather(self, at: int, number: int, entry: str, place: Place) -> Message | None:
        """Put a message into the batch that Lambda gets; deliver that when it has one to four."""
        self._batch.append(entry)
        self._batch_end = (at, place)
        return self._batched() if len(self._batch) > number % _MOST_IN_BATCH else None

    def _batched(self) -> Message:
        at, place = self._batch_end
        body = wrap.lambda_sqs(self._batch).encode()
        self._batch = []
        return self._message(at, body, place.account, place)

    def _message(self, at: int, body: bytes, account: str, place: Place) -> Message:
        self.tally.messages += 1
        return Message(at, body, account, place.region)


def _crosses_accounts(fact: Fact) -> bool:
    if fact.copy is None or fact.version.kind != "cloudtrail":
        return False
    return fact.copy.destination.place.account != fact.version.source.place.account


def _wrapped(text: str, wrapper: Wrapper, ids: Ids, at: int, place: Place) -> str:
    if wrapper == "sns":
        return wrap.sns(text, ids, at, place)
    if wrapper == "sqs":
        return wrap.sqs(text, ids, at)
    if wrapper == "sqs-sns":
        return wrap.sqs(wrap.sns(text, ids, at, place), ids, at)
    return wrap.lambda_sns(text, ids, at, place)


def messages(plan: Plan) -> Iterator[tuple[int, bytes]]:
    """Every message of the plan with the time of its delivery (milliseconds), in that order; one line each.

    In the layout ``logs`` these are the single CloudTrail records, without the files around them.
    """
    for message in Stream(plan):
        yield message.at, message.body
