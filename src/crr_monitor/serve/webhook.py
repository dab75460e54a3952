"""``POST /events``: messages over HTTP. An answer of 200 means that everything in the request is durable."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from msgspec import Struct

from crr_monitor.serve.subscriptions import CONFIRMATION, TYPE_HEADER, SubscriptionError
from crr_monitor.serve.writer import RefusedError
from crr_monitor.sources.inflate import MAGIC
from crr_monitor.sources.memory import InflateError, inflate, pieces_of
from crr_monitor.stores.base import Counts, system_clock

if TYPE_CHECKING:
    from crr_monitor.process.gather import Gatherer
    from crr_monitor.serve.state import State
    from crr_monitor.serve.subscriptions import Subscriptions
    from crr_monitor.serve.tokens import Guard
    from crr_monitor.serve.writer import Outcome, Writer

MAX_BYTES = 8 << 20
"""Of one request, as it comes and decompressed."""

WAITING_BYTES = 64 << 20
WAITING_REQUESTS = 4_000
"""What may wait to become durable; more is answered with 429. 64 MiB are about two seconds of work."""

BODY_SECONDS = 30.0
"""How long a body may take to arrive."""

LONGEST_RETRY = 30
OK, BAD, UNAUTHORIZED, FORBIDDEN, TIMEOUT, TOO_LARGE, WRONG_KIND, TOO_MANY, UNAVAILABLE = (
    200,
    400,
    401,
    403,
    408,
    413,
    415,
    429,
    503,
)
ENCODINGS = ("", "identity", "gzip", "x-gzip")

_encode = msgspec.json.Encoder().encode


class Answer(Struct, omit_defaults=True):
    """What the sender is told: ``messages`` and so on as ``crr-monitor ingest`` counts them, or the ``error``."""

    messages: int | None = None
    events: int | None = None
    ignored: int | None = None
    malformed: int | None = None
    error: str | None = None


class _Origin(Struct, frozen=True):
    """What rejects are kept under."""

    name: str = "webhook"
    fingerprint: str | None = None


_ORIGIN = _Origin()


class _Post:
    """One request's body: see :class:`crr_monitor.serve.writer.Intake`."""

    __slots__ = ("_body", "_gzip", "future", "loop", "size")

    def __init__(self, body: bytes, *, gzip: bool) -> None:
        self._body = body
        self._gzip = gzip
        self.size = len(body)
        self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        self.future: asyncio.Future[Outcome] = self.loop.create_future()

    def take(self, gatherer: Gatherer) -> Counts:
        """Decode it."""
        body = self._body
        if self._gzip or body.startswith(MAGIC):
            try:
                body = inflate(body, MAX_BYTES)
            except InflateError as error:
                raise RefusedError(TOO_LARGE if error.too_large else BAD, str(error)) from error
        counts = Counts()
        for piece in pieces_of(body, system_clock()):
            counts.add(gatherer.take(_ORIGIN, piece, resumable=False))
        return counts

    def finish(self, outcome: Outcome) -> None:
        """Wake the request, unless it was given up."""
        if not self.future.done():
            self.future.set_result(outcome)


class Webhook:
    """The handler of ``POST /events``."""

    def __init__(self, writer: Writer, guard: Guard | None, state: State, topics: Subscriptions) -> None:
        """Without ``guard`` there is no token, and so nobody who may send. ``topics`` of SNS may subscribe."""
        self._writer = writer
        self._guard = guard
        self._state = state
        self._topics = topics
        self._began: dict[int, float] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Take a request."""
        return self._counted(await self._answer(request))

    def _counted(self, response: web.Response) -> web.Response:
        counted = self._state.requests
        counted[response.status] = counted.get(response.status, 0) + 1
        return response

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Refuse before the body is sent, where the sender waits to be told (``Expect: 100-continue``)."""
        refusal = self._refusal(request)
        if refusal is not None:
            return self._counted(refusal)
        if request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def _refusal(self, request: web.Request) -> web.Response | None:
        """What can be said without the body."""
        if self._guard is None:
            return refused(FORBIDDEN, "no token is set, so nothing is taken: start the monitor with --token-file")
        if not self._guard.allows(request.headers.get("Authorization")):
            # SNS sends its password only when it is asked for it, and knows no other way than this.
            challenge = {"WWW-Authenticate": 'Basic realm="crr-monitor"'} if self._topics else None
            return refused(UNAUTHORIZED, "send the token: Authorization: Bearer TOKEN", challenge)
        if request.headers.get("Content-Encoding", "").strip().lower() not in ENCODINGS:
            return refused(WRONG_KIND, "Content-Encoding may be gzip, or be left out")
        length = request.content_length
        if length is not None and length > MAX_BYTES:
            return _too_large()
        expected = MAX_BYTES if length is None else length
        state = self._state
        if state.waiting >= WAITING_REQUESTS or (state.waiting and state.waiting_bytes + expected > WAITING_BYTES):
            return self._too_many()
        return None

    def _too_many(self) -> web.Response:
        waited = time.monotonic() - (self._state.oldest_waiting or time.monotonic())
        seconds = min(LONGEST_RETRY, max(1, math.ceil(waited)))
        return refused(TOO_MANY, f"too much at once: send it again in {seconds} s", {"Retry-After": str(seconds)})

    async def _answer(self, request: web.Request) -> web.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        length = request.content_length
        held, state = MAX_BYTES if length is None else length, self._state
        state.waiting += 1
        state.waiting_bytes += held
        ticket = id(request)
        self._began[ticket] = time.monotonic()
        state.oldest_waiting = next(iter(self._began.values()))
        try:
            return await self._take(request)
        finally:
            state.waiting -= 1
            state.waiting_bytes -= held
            del self._began[ticket]
            state.oldest_waiting = next(iter(self._began.values()), None)

    async def _take(self, request: web.Request) -> web.Response:
        body = await _body_of(request)
        if isinstance(body, web.Response):
            return body
        if self._topics and request.headers.get(TYPE_HEADER) == CONFIRMATION:
            refusal = await self._confirm(body)
            if refusal is not None:
                return refusal
        post = _Post(body, gzip=request.headers.get("Content-Encoding", "").strip().lower() in ENCODINGS[2:])
        self._writer.submit(post)
        outcome = await post.future
        if isinstance(outcome, Counts):
            return _said(OK, Answer(outcome.messages, outcome.events, sum(outcome.ignored.values()), outcome.malformed))
        if isinstance(outcome, RefusedError):
            return refused(outcome.status, str(outcome))
        return refused(UNAVAILABLE, f"not stored: {outcome}", {"Retry-After": "5"})

    async def _confirm(self, body: bytes) -> web.Response | None:
        """Confirm a subscription; or why that was not done."""
        try:
            await asyncio.to_thread(self._topics.confirm, body)
        except SubscriptionError as error:
            return refused(UNAVAILABLE if error.allowed else FORBIDDEN, str(error))
        return None


async def _body_of(request: web.Request) -> bytes | web.Response:
    """The body, or why there is none."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _too_large()
    except TimeoutError:
        return refused(TIMEOUT, f"the body did not arrive within {BODY_SECONDS:.0f} s: send it in parts")
    except (ConnectionError, web.RequestPayloadError):
        return refused(BAD, "the body ended early: send it again")
    if not body.strip():
        return refused(BAD, "the body is empty: send one message, a list of them, or one in each line")
    return body


def refused(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """An answer in JSON that says what is wrong and what to do."""
    response = _said(status, Answer(error=text), headers)
    if status == UNAUTHORIZED:
        response.headers.setdefault("WWW-Authenticate", 'Bearer realm="crr-monitor"')
    if status in {UNAUTHORIZED, FORBIDDEN, TIMEOUT, TOO_LARGE, WRONG_KIND}:
        # The body was not read, and is not going to be.
        response.force_close()
    return response


def _too_large() -> web.Response:
    return refused(TOO_LARGE, f"a request has at most {MAX_BYTES >> 20} MiB: send it in parts")


def _said(status: int, answer: Answer, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=_encode(answer), status=status, content_type="application/json", headers=headers)
