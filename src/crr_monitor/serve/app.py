"""The routes, who may use them, and what every answer carries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from crr_monitor.core.times import SECOND_MS
from crr_monitor.serve.pages import page_of
from crr_monitor.serve.questions import QuestionError, read_object, read_records, read_stats
from crr_monitor.serve.readers import BusyError
from crr_monitor.serve.tokens import COOKIE
from crr_monitor.serve.webhook import MAX_BYTES, refused
from crr_monitor.sinks import openmetrics
from crr_monitor.stores.base import StoreError, system_clock
from crr_monitor.web import Pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crr_monitor.config import Config
    from crr_monitor.serve.access import Access
    from crr_monitor.serve.health import Health
    from crr_monitor.serve.readers import Question, Readers
    from crr_monitor.serve.state import State
    from crr_monitor.serve.webhook import Webhook
    from crr_monitor.sinks.openmetrics import Own

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
COOKIE_SECONDS = 30 * 86_400
_encode = msgspec.json.Encoder().encode


class Site:
    """Everything but ``POST /events``."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it is made of
        self, config: Config, access: Access, readers: Readers, state: State, own: Own, health: Health
    ) -> None:
        self._config = config
        self._access = access
        self._readers = readers
        self._state = state
        self._health = health
        self._pages = Pages()
        self._scraping = asyncio.Lock()
        self._own = own

    def app(self, webhook: Webhook) -> web.Application:
        """The application."""
        app = web.Application(client_max_size=MAX_BYTES)
        app.on_response_prepare.append(_add_headers)
        router = app.router
        router.add_post("/events", webhook.handle, expect_handler=webhook.expect)
        router.add_get("/healthz", self._healthz)
        router.add_get("/readyz", self._readyz)
        for path, handler in (
            ("/metrics", self._metrics),
            ("/api/stats", self._stats),
            ("/api/records", self._records),
            ("/api/status", self._status),
            ("/api/monitor", self._monitor),
        ):
            router.add_get(path, self._for_readers(handler))
        router.add_get("/", self._page)
        router.add_get("/static/{name}", self._asset)
        router.add_post("/login", self._login)
        return app

    # ------------------------------------------------------------------ health

    async def _healthz(self, _request: web.Request) -> web.Response:
        problem = self._health.alive()
        return web.Response(text=f"{problem or 'ok'}\n", status=200 if problem is None else 503)

    async def _readyz(self, request: web.Request) -> web.Response:
        found = await self._health.ready()
        status = 200 if found["ready"] else 503
        # What the sources are called is not for everybody.
        return _json(found if self._access.may_read(request) else {"ready": found["ready"]}, status)

    # ----------------------------------------------------------------- figures

    def _for_readers(self, handler: Handler) -> Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            if not self._access.may_read(request):
                return self._refusal()
            try:
                return await handler(request)
            except QuestionError as error:
                return refused(400, str(error))
            except (StoreError, BusyError) as error:
                return refused(503, str(error), {"Retry-After": "5"})

        return checked

    def _refusal(self) -> web.Response:
        if self._access.guard is None:
            return refused(403, "only this machine may ask, by the name localhost: else start it with --token-file")
        return refused(401, "send the token: Authorization: Bearer TOKEN")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self.exposition(), headers={"Content-Type": openmetrics.CONTENT_TYPE})

    async def exposition(self) -> bytes:
        """The text for a scrape; the first one begins the counters.

        Raises:
            StoreError, BusyError: the store could not be asked.
        """
        self._tell_own()
        own, now = self._own, system_clock()
        async with self._scraping:
            return await self._readers.ask(lambda store: openmetrics.exposition(store, own, now))

    def _tell_own(self) -> None:
        """What the process knows of its queues and requests at this moment."""
        self._own.requests = dict(self._state.requests)
        oldest = self._state.oldest_waiting
        age = None if oldest is None else max(0.0, asyncio.get_running_loop().time() - oldest)
        self._own.queues["webhook"] = openmetrics.Queue(self._state.waiting, age)
        for source in self._state.sources:
            if source.waiting is not None:
                self._own.queues[source.name] = openmetrics.Queue(source.waiting)

    async def _stats(self, request: web.Request) -> web.Response:
        asked = read_stats(request.query)
        return await self._answer(lambda store: asked.answer(store, self._config.rpo_seconds * SECOND_MS))

    async def _records(self, request: web.Request) -> web.Response:
        return await self._answer(read_records(request.query).answer)

    async def _status(self, request: web.Request) -> web.Response:
        return await self._answer(read_object(request.query).answer)

    async def _answer(self, question: Question) -> web.Response:
        return _json(await self._readers.ask(question))

    async def _monitor(self, _request: web.Request) -> web.Response:
        return _json(self._health.to_json())

    # -------------------------------------------------------------------- page

    async def _page(self, request: web.Request) -> web.Response:
        if not self._access.may_read(request):
            return self._login_page() if self._access.guard is not None else self._html("closed.html", 403)
        target_ms = self._config.rpo_seconds * SECOND_MS
        try:
            values = await self._readers.ask(lambda store: page_of(store, request.query, target_ms))
        except (StoreError, BusyError) as error:
            return self._html("problem.html", 503, problem=str(error))
        ready = await self._health.ready()
        return self._html("page.html", **values, monitor=self._health.to_json(), ready=ready)

    async def _asset(self, request: web.Request) -> web.Response:
        found = self._pages.asset(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        body, kind = found
        return web.Response(body=body, headers={"Content-Type": kind, "Cache-Control": "no-cache"})

    async def _login(self, request: web.Request) -> web.Response:
        """The token in exchange for a cookie: a browser has no other way to show it."""
        guard = self._access.guard
        token = (await request.post()).get("token")
        if guard is None or not isinstance(token, str) or not guard.matches(token.strip()):
            return self._login_page(wrong=True) if guard is not None else self._html("closed.html", 403)
        response = web.Response(status=303, headers={"Location": "/"})
        secure = request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        response.set_cookie(
            COOKIE, guard.cookie, max_age=COOKIE_SECONDS, path="/", httponly=True, samesite="Strict", secure=secure
        )
        return response

    def _login_page(self, *, wrong: bool = False) -> web.Response:
        return self._html("login.html", 401, wrong=wrong)

    def _html(self, name: str, status: int = 200, **values: Any) -> web.Response:  # noqa: ANN401 - for a template
        body = self._pages.render(name, **values)
        return web.Response(body=body, status=status, content_type="text/html", charset="utf-8")


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "crr-monitor"
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=_encode(body), status=status, content_type="application/json")
