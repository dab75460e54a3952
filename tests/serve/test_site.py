"""What can be read from a real process, by whom, and that it is the contract's JSON."""

from __future__ import annotations

import json
import re
import socket
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from crr_monitor.core.times import HOUR_MS, MINUTE_MS, format_time
from crr_monitor.core.topology import Topology
from crr_monitor.stores.base import Batch, system_clock
from crr_monitor.stores.sqlite import SqliteStore
from tests.cli.running import asked, objects
from tests.factories import KEY, ONE_WAY, config, failed, merged_by_version, replica, rule, user_write
from tests.serve.running import TOKEN, Reply, Server, token_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crr_monitor.core.events import Event

NASTY = '<script>alert("1")</script>\u202e&\n.txt'


def fill_live(path: Path) -> int:
    """Versions of the last hour: one that is there, one that failed, one overdue; gives when they were written."""
    at = system_clock() - 30 * MINUTE_MS
    store = SqliteStore(path)
    store.learn([(config, True) for config in ONE_WAY.configs])
    events: list[Event] = [
        user_write(at=at, size=10),
        replica(at=at + 12_000),
        user_write(key=NASTY, version_id="v2", at=at, size=20),
        failed(key=NASTY, version_id="v2", at=at + 30_000),
        user_write(key="late.txt", version_id="v3", at=at, size=30),
    ]
    store.apply(Batch(evidence=merged_by_version(events, ONE_WAY), newest_event=at))
    store.close()
    return at


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with a few records and a token."""
    folder = tmp_path_factory.mktemp("site")
    fill_live(folder / "store.db")
    with Server(folder, "--token-file", str(token_file(folder))) as running:
        yield running


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that listens where other machines can reach it."""
    folder = tmp_path_factory.mktemp("remote")
    fill_live(folder / "store.db")
    token = str(token_file(folder))
    with Server(folder, "--token-file", token, "--allow-remote", listen="0.0.0.0:0") as running:
        yield running


READABLE = ("/", "/metrics", "/api/stats", "/api/records", "/api/status?object=s3://orders/a", "/api/monitor")


def test_health(server: Server) -> None:
    """It is alive and ready, and says what it looked at."""
    assert (server.get("/healthz").status, server.get("/healthz").body) == (200, b"ok\n")
    reply = server.get("/readyz")
    assert (reply.status, reply.json) == (200, {"ready": True, "checks": [{"name": "store", "ready": True}]})


def test_records_are_those_of_the_command(server: Server) -> None:
    """``/api/records`` gives what ``crr-monitor list`` prints, with the same filters."""
    assert server.get("/api/records").json == objects(server.store, "list")
    for name, value in (("status", "FAILED"), ("source", "orders"), ("prefix", "late"), ("limit", "1")):
        found = server.get(f"/api/records?{name}={value}").json
        assert found == objects(server.store, "list", f"--{name}", value), name
    assert [record["key"] for record in server.get("/api/records?status=pending&since=1h").json] == ["late.txt"]
    assert server.get("/api/records?since=10m").json == []


def test_status_is_that_of_the_command(server: Server) -> None:
    """``/api/status`` gives what ``crr-monitor status`` prints, and an empty list of what is not known."""
    name = f"s3://orders/{KEY}"
    found = server.get(f"/api/status?object={quote(name)}").json
    assert found == objects(server.store, "status", name)
    assert found[0]["destinations"][0]["lag_seconds"] == 12.0
    assert server.get(f"/api/status?object={quote(name)}&version_id=other").json == []


def test_stats_are_those_of_the_command(server: Server) -> None:
    """``/api/stats`` gives what ``crr-monitor stats`` prints for the same time."""
    as_of = json.loads(asked(server.store, "stats", "-o", "json"))["as_of"]
    printed = json.loads(asked(server.store, "stats", "-o", "json", "--as-of", as_of, "--window", "2h"))
    assert server.get(f"/api/stats?as_of={as_of}&window=2h").json == printed
    assert printed["groups"][0]["failed_by_reason"] == {"DstKmsKeyNotFound": 1}


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/records?limit=0", "limit is '0': allowed is a whole number from 1 to 1000"),
        (
            "/api/records?status=GONE",
            "status is 'GONE': allowed is one of FAILED, PENDING, COMPLETED, SOURCE_DELETED, NOT_ELIGIBLE",
        ),
        ("/api/records?uncertain=maybe", "uncertain is 'maybe': allowed is true or false"),
        (
            "/api/records?since=yesterday",
            "since is 'yesterday': allowed is a time as in 2026-11-22T07:00:00Z, or how long ago, as in 90m, 24h, 7d",
        ),
        ("/api/stats?by=key", "by is 'key': allowed is one of pair, source, destination"),
        ("/api/stats?window=1h&since=2h", "window excludes since and until"),
        ("/api/stats?since=1h&until=2h", "since is not before until"),
        ("/api/stats?window=0s", "window is '0s': allowed is a length of time, as in 90m, 24h or 7d"),
        ("/api/stats?windov=1h", "unknown parameter 'windov': there are window, since, until, as_of, by"),
        (
            "/api/status?object=orders/a",
            "object is 'orders/a': allowed is s3://BUCKET/KEY, with the key as it is, URL-encoded once",
        ),
    ],
)
def test_wrong_parameter(server: Server, path: str, error: str) -> None:
    """A parameter that is wrong or unknown is named, with what is allowed."""
    reply = server.get(path)
    assert (reply.status, reply.json) == (400, {"error": error})


def test_metrics(server: Server) -> None:
    """``/metrics`` is OpenMetrics text with the store's figures, and with how many requests wait."""
    reply = server.get("/metrics")
    assert reply.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    lines = reply.body.decode().splitlines()
    assert 'crr_monitor_pending_objects{destination="orders-dr",source="orders"} 1.0' in lines
    assert 'crr_monitor_queue_depth{queue="webhook"} 0.0' in lines
    assert lines[-1] == "# EOF"


def test_requests_are_counted_by_answer(tmp_path: Path) -> None:
    """``/metrics`` counts requests with messages by status code, also one that is refused before its body is sent."""
    fill_live(tmp_path / "store.db")
    with Server(tmp_path, "--token-file", str(token_file(tmp_path))) as running:
        assert counted(running) == {"200": 0}
        statuses = [running.post(b"{}").status, running.post(b"").status, running.post(b"{}", token=None).status]
        assert statuses == [200, 400, 401]
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as asking:
            head = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
            asking.sendall(head.encode())
            assert asking.recv(65_536).startswith(b"HTTP/1.1 401 ")
        assert counted(running) == {"200": 1, "400": 1, "401": 2}


def counted(running: Server) -> dict[str, float]:
    """The requests that ``/metrics`` tells of, by status code."""
    text = running.get("/metrics").body.decode()
    found = re.findall(r'^crr_monitor_http_requests_total\{code="(\d+)"\} (\S+)$', text, re.MULTILINE)
    return {code: float(count) for code, count in found}


def test_page_of_what_is_not_known(tmp_path: Path) -> None:
    """Without any replica there is no lag, with two rules no rule's name, and a replica may be all that is known."""
    at = system_clock() - 30 * MINUTE_MS
    topology = Topology((config(rule(), rule(rule_id="two", prefix="b/", priority=2)),))
    store = SqliteStore(tmp_path / "store.db")
    store.learn([(each, True) for each in topology.configs])
    events = [user_write(at=at), user_write(key="b/1", version_id="v2", at=at)]
    store.apply(Batch(evidence=merged_by_version(events, topology), newest_event=at))
    stray = [replica(bucket="elsewhere", version_id="v3", at=at)]
    store.apply(Batch(evidence=merged_by_version(stray, topology), newest_event=at))
    store.close()
    with Server(tmp_path) as running:
        reply = running.get("/")
        groups = running.get("/api/stats").json["groups"]
    assert reply.status == 200
    assert "2 overdue" in reply.body.decode()
    assert "(not known)" in reply.body.decode()
    assert [(group.get("source", "absent"), "rule_id" in group, group["lag_seconds"]) for group in groups] == [
        ("absent", False, {}),
        ("orders", False, {}),
    ]


def test_page_is_not_well_while_older_copies_are_overdue(tmp_path: Path) -> None:
    """What was written before the window is not in its figures, but the page does not call that quiet or well."""
    at = system_clock() - 48 * HOUR_MS
    store = SqliteStore(tmp_path / "store.db")
    store.learn([(each, True) for each in ONE_WAY.configs])
    new = [user_write(at=system_clock(), version_id="v2"), replica(at=system_clock(), version_id="v2")]
    for events in ([user_write(at=at)], new):
        store.apply(Batch(evidence=merged_by_version(events, ONE_WAY), newest_event=system_clock()))
    store.close()
    with Server(tmp_path) as running:
        page = running.get("/").body.decode()
        longer = running.get("/?window=7d").body.decode()
    assert "Copies of earlier versions failed, or are overdue" in page
    assert "<title>Trouble - CRR Monitor</title>" in page
    assert "1 overdue" in longer
    assert "earlier versions" not in longer


class _Page(HTMLParser):
    """Collects what a page loads and links, its scripts and styles, and all its text."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self.text = ""
        self.feed(reply.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at a tag."""
        given = dict(attrs)
        self.loads += [given[name] or "" for name in ("src", "action") if name in given]
        if tag in {"link", "use", "a"}:
            self.loads.append(given.get("href") or "")
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


def test_page_shows_how_it_is(server: Server) -> None:
    """The page tells what failed and why, what is overdue, and the pair's figures."""
    page = _Page(server.get("/"))
    text = " ".join(page.text.split())
    assert "1 failed, 1 overdue" in text
    assert "orders → orders-dr" in text
    assert "DstKmsKeyNotFound" in text
    assert "Fix: " in text
    assert "late.txt" in text


def test_page_escapes_what_comes_from_messages(server: Server) -> None:
    """A key with markup, a line break and a character that turns text around is shown, harmless."""
    reply = server.get("/")
    assert b"<script>alert" not in reply.body
    assert "\u202e" not in reply.body.decode()
    assert '<script>alert("1")</script>\\u202e&\\n.txt' in _Page(reply).text


def test_page_loads_only_its_own(server: Server) -> None:
    """Nothing on the page comes from elsewhere, and nothing in it is a script or a style; so says its policy, too."""
    reply = server.get("/")
    page = _Page(reply)
    assert page.inline == []
    assert [each for each in page.loads if not each.startswith("/") or each.startswith("//")] == []
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("/static/style.css", "/static/page.js", "/static/icon.svg"):
        assert server.get(name).status == 200
    assert server.get("/static/none.css").status == 404
    assert server.get("/static/..%2f__init__.py").status == 404


def test_search(server: Server) -> None:
    """One object's versions are found by its name, with or without ``s3://``; else it is told what is not known."""
    for name in (f"s3://orders/{KEY}", f"orders/{KEY}"):
        assert "12.0s" in _Page(server.get(f"/?object={quote(name)}")).text
    assert "Nothing is known of it" in _Page(server.get("/?object=s3://orders/none")).text
    assert "write it as s3://bucket/key" in _Page(server.get("/?object=orders")).text


@pytest.mark.parametrize("path", READABLE)
def test_foreign_name_is_turned_away(server: Server, path: str) -> None:
    """Who asks by another name than this machine's own, or through a proxy, needs the token also on this machine."""
    assert server.get(path).status == 200
    for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "192.0.2.1"}):
        assert server.get(path, **headers).status == 401
        assert server.get(path, **headers, Authorization=f"Bearer {TOKEN}").status == 200
    assert server.get("/readyz", Host="evil.example").json == {"ready": True}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.8.8.8:1", "[::1]:80", "localhost."])
def test_own_names(server: Server, host: str) -> None:
    """The names of this machine itself are all taken."""
    assert server.get("/api/monitor", Host=host).status == 200


@pytest.mark.parametrize("path", READABLE)
def test_remote_needs_the_token(remote: Server, path: str) -> None:
    """Where other machines can ask, all figures need the token; whether it is alive does not."""
    assert remote.get(path).status == 401
    assert remote.get(path, Authorization=f"Bearer {TOKEN}").status == 200
    assert remote.get("/healthz").status == 200
    assert remote.get("/readyz").json == {"ready": True}


def test_sign_in(remote: Server) -> None:
    """With the token a browser gets a cookie that opens the page, and that is not the token."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    wrong = remote.ask("POST", "/login", b"token=wrong-token-0123456789", form)
    assert wrong.status == 401
    assert "That is not the token." in _Page(wrong).text
    right = remote.ask("POST", "/login", f"token={TOKEN}".encode(), form)
    cookie = right.headers["Set-Cookie"]
    assert (right.status, right.headers["Location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    shown = cookie.partition(";")[0]
    assert remote.get("/", Cookie=shown).status == 200
    assert remote.get("/", Cookie=shown[:-1]).status == 401


def test_nobody_else_without_a_token(tmp_path: Path) -> None:
    """Without a token only this machine may read, and others are told so."""
    with Server(tmp_path) as server:
        assert server.get("/api/stats").status == 200
        closed = server.get("/", Host="monitor.example")
        assert closed.status == 403
        assert "start it with --token-file" in " ".join(_Page(closed).text.split())
        assert server.get("/api/stats", Host="monitor.example").json == {
            "error": "only this machine may ask, by the name localhost: else start it with --token-file"
        }


def test_page_of_an_empty_store(tmp_path: Path) -> None:
    """A new monitor shows a page that says what is missing."""
    with Server(tmp_path) as server:
        text = " ".join(_Page(server.get("/")).text.split())
    assert "Nothing was written in this time" in text
    assert "No replication rules are known." in text


def test_ages_go_on_after_events_that_came_late(tmp_path: Path) -> None:
    """Where the newest event came late, as after an outage, the monitor's clock is now all the same: backlog ages.

    Commands ask by that clock, too, once it has heard events; not where it only shows a store of old logs.
    """
    at = system_clock() - 3 * HOUR_MS
    store = SqliteStore(tmp_path / "store.db")
    store.learn([(each, True) for each in ONE_WAY.configs])
    store.apply(Batch(evidence=merged_by_version([user_write(at=at)], ONE_WAY), newest_event=at))
    store.close()
    with Server(tmp_path) as server:
        before = system_clock()
        body = server.get("/api/stats").json
        assert format_time(before) <= body["as_of"] <= format_time(system_clock())
        assert body["groups"][0]["oldest_pending_seconds"] >= 3 * 3_600
        assert (body["clock"], body["newest_event_at"]) == ("now", format_time(at))
        assert json.loads(asked(server.store, "stats", "-o", "json"))["clock"] == "newest-event"
    with Server(tmp_path, "--token-file", str(token_file(tmp_path))) as server:
        assert json.loads(asked(server.store, "stats", "-o", "json"))["clock"] == "now"
