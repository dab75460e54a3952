"""How much the webhook of ``crr-monitor serve`` takes, everything durable before it is answered.

``python3 dev.py bench serve [SECONDS]`` (of each of the four measurements, 8). The server and the load each are a
process of their own, as on a machine with two cores. The messages are S3 event notifications: a write, then its
replica's arrival, of ever new object versions. Measured are

- the rate with one event in a request, and with 50 in a request, as fast as 64 connections can: each sends the next
  request when the last one was answered;
- the time to the answer at half the target rates. A request is due at its own instant whether the ones before it were
  answered or not, and its time counts from then on: waiting in the load's own queue counts, too;
- the server's memory: once its caches are full, after the first two measurements, and after the last.

Other work on the machine shows in all of them: the load average is printed beside.

In the end the store has to hold exactly what was answered with 200. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict

from bench._common import WORK, remove_store, show
from crr_monitor.core.times import format_time
from crr_monitor.core.topology_document import parse_topology
from crr_monitor.stores.sqlite import SqliteStore

SINGLE_TARGET = 2_000
"""Requests of one event in a second."""

MANY_TARGET = 20_000
"""Events in a second, 50 in a request."""

MANY = 50
P99_TARGET_MS = 100.0
MEMORY_TARGET = 1.15
"""How much memory the server may have at the end, of what it had once its caches were full."""

CONNECTIONS = 64
SECONDS = 8.0
TOPOLOGY = [
    {
        "account": "111122223333",
        "region": "us-east-1",
        "bucket": "orders",
        "since": "2026-01-01T00:00:00Z",
        "ReplicationConfiguration": {
            "Role": "arn:aws:iam::111122223333:role/replication",
            "Rules": [
                {
                    "ID": "dr",
                    "Priority": 1,
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "DeleteMarkerReplication": {"Status": "Disabled"},
                    "Destination": {"Bucket": "arn:aws:s3:::orders-dr"},
                }
            ],
        },
    },
    {"account": "444455556666", "region": "eu-west-1", "bucket": "orders-dr"},
]
_STATUS = re.compile(rb"HTTP/1\.1 (\d+)[^\r\n]*\r\n(?:[^\r\n]+\r\n)*?Content-Length: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\n")


class Load(Struct, frozen=True):
    """What to send. ``rate``: requests in a second; 0: as fast as the connections can."""

    port: int
    token: str
    name: str
    events: int
    seconds: float
    rate: float = 0.0


class Result(Struct):
    """What came of it: answers by status, seconds, and the times to the answer in milliseconds."""

    answers: dict[int, int]
    seconds: float
    p50: float
    p99: float
    worst: float
    cpu: float


def event(name: str, number: int) -> str:
    """One message: even numbers are writes, odd ones the arrival of the replica of the write before."""
    version, arrived = divmod(number, 2)
    now = format_time(time.time_ns() // 1_000_000)
    return (
        '{"Records":[{"eventVersion":"2.3","eventSource":"aws:s3",'
        f'"awsRegion":"{("us-east-1", "eu-west-1")[arrived]}","eventTime":"{now}","eventName":"ObjectCreated:Put",'
        '"userIdentity":{"principalId":"AWS:AROAEXAMPLEROLE000001:'
        f'{("app", "s3-replication")[arrived]}"}},"requestParameters":{{"sourceIPAddress":"192.0.2.10"}},'
        '"responseElements":{"x-amz-request-id":"C3D13FE58DE4C810","x-amz-id-2":"EXAMPLEEXAMPLEEXAMPLEEXAMPLE"},'
        '"s3":{"s3SchemaVersion":"1.0","configurationId":"replication","bucket":{"name":"'
        f'{("orders", "orders-dr")[arrived]}","ownerIdentity":{{"principalId":"A3NL1KOZZKExample"}},'
        f'"arn":"arn:aws:s3:::{("orders", "orders-dr")[arrived]}"}},"object":{{'
        f'"key":"2026/11/{name}/{version:09}/invoice+one.pdf","size":520080,"eTag":"d41d8cd98f00b204e9800998ecf8427e",'
        f'"versionId":"{name}.{version:09}.3v567TKlEQF5IBoe","sequencer":"0055AED6DCD9{number:08X}"}}}}}}]}}'
    )


class Connection(asyncio.Protocol):
    """One connection, which sends the next request that is due whenever it is free."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._received = b""
        self._due: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, due: float) -> None:
        """Send one request, which was due then."""
        self._due = due
        self._transport.write(self._driver.request())

    def data_received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        self._received += data
        found = _STATUS.match(self._received)
        if found is None or len(self._received) < found.end() + int(found[2]):
            return
        self._received = self._received[found.end() + int(found[2]) :]
        assert self._due is not None
        due, self._due = self._due, None
        self._driver.answered(self, int(found[1]), due)

    def connection_lost(self, exc: Exception | None) -> None:
        """A request without an answer is one that failed."""
        if self._due is not None:
            self._driver.lost(exc)


class Driver:
    """The load process."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._head = (
            f"POST /events HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\nAuthorization: Bearer {load.token}\r\n"
            "Content-Type: application/x-ndjson\r\nContent-Length: "
        ).encode()
        self._number = 0
        self._free: deque[Connection] = deque()
        self._overdue: deque[float] = deque()
        self._end = 0.0
        self._times: list[float] = []
        self._answers: dict[int, int] = {}
        self._in_flight = 0

    def request(self) -> bytes:
        """The next one."""
        first, self._number = self._number, self._number + self._load.events
        body = "\n".join([event(self._load.name, number) for number in range(first, self._number)]).encode()
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def answered(self, connection: Connection, status: int, due: float) -> None:
        """Count it, and go on."""
        now = time.perf_counter()
        self._times.append(now - due)
        self._answers[status] = self._answers.get(status, 0) + 1
        self._in_flight -= 1
        if self._overdue:
            self._send(connection, self._overdue.popleft())
        elif not self._load.rate and now < self._end:
            self._send(connection, now)
        else:
            self._free.append(connection)

    def lost(self, exc: Exception | None) -> None:
        """A connection broke: nothing that follows would be worth anything."""
        sys.exit(f"the server closed a connection: {exc}")

    def _send(self, connection: Connection, due: float) -> None:
        self._in_flight += 1
        connection.send(due)

    async def run(self) -> Result:
        """Send for the time that was asked, and wait for all answers."""
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._load.port)
            self._free.append(connection)
        begin, cpu = time.perf_counter(), time.process_time()
        self._end = begin + self._load.seconds
        if self._load.rate:
            await self._keep_rate(begin)
        else:
            while self._free:
                self._send(self._free.popleft(), time.perf_counter())
            await asyncio.sleep(self._load.seconds)
        while self._in_flight or self._overdue:  # noqa: ASYNC110 - an event for each answer would cost its own time
            await asyncio.sleep(0.005)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        times = sorted(1e3 * each for each in self._times)
        return Result(
            self._answers, seconds, times[len(times) // 2], times[int(len(times) * 0.99)], times[-1], cpu / seconds
        )

    async def _keep_rate(self, begin: float) -> None:
        count = 0
        while (now := time.perf_counter()) < self._end:
            while (due := begin + count / self._load.rate) <= now:
                count += 1
                if self._free:
                    self._send(self._free.popleft(), due)
                else:
                    self._overdue.append(due)
            await asyncio.sleep(max(0.0, begin + count / self._load.rate - time.perf_counter()))


class Server:
    """The process under test."""

    def __init__(self) -> None:
        self.store = WORK / "serve.db"
        WORK.mkdir(parents=True, exist_ok=True)
        remove_store(self.store)
        store = SqliteStore(self.store)
        store.learn(parse_topology(TOPOLOGY))
        store.close()
        self.token = secrets.token_hex(16)
        token_file = WORK / "serve.token"
        token_file.touch(mode=0o600)
        token_file.write_text(self.token)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "crr_monitor", "--store", str(self.store)),
                *("serve", "--listen", "127.0.0.1:0", "--token-file", str(token_file)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line
        self.port = int(found[1])

    @property
    def cpu(self) -> float:
        """Processor seconds of the server until now, of all its threads and processes."""
        total = 0.0
        for pid in self._pids():
            parts = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            total += (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
        return total

    @property
    def memory(self) -> float:
        """Resident megabytes now, of what is its own (the pages of the store's files are shared with the system)."""
        total = 0
        for pid in self._pids():
            line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("RssAnon"))
            total += int(line.split()[1])
        return total / 1024

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [self._process.pid, *map(int, children)]

    def load(self, name: str, events: int, seconds: float, rate: float = 0.0) -> tuple[Result, float]:
        """Have the load process send; also gives how much of a core the server took meanwhile."""
        load = Load(self.port, self.token, name, events, seconds, rate)
        before = self.cpu
        done = subprocess.run(
            [sys.executable, "-m", "bench.serve", "--load", json.dumps(asdict(load))],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        told = json.loads(done.stdout)
        told["answers"] = {int(status): count for status, count in told["answers"].items()}
        result = Result(**told)
        return result, (self.cpu - before) / result.seconds

    def stop(self) -> int:
        """End it as a service manager would; gives its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout=30)
        finally:
            if self._process.stderr is not None:
                self._process.stderr.close()


def check(server: Server, taken: int) -> None:
    """The store holds what was answered with 200, and is right about it."""
    store = SqliteStore(server.store)
    counts = store.counts()
    assert counts.events == taken, (counts, taken)
    assert counts.malformed == 0, counts
    (record,) = store.versions("orders", "2026/11/many/000000007/invoice one.pdf")
    assert record.status.name == "COMPLETED", record
    store.close()


def measure(seconds: float) -> bool:
    """Print the figures; gives whether all targets are met."""
    server = Server()
    met, taken, memory = True, 0, []
    show("cores, load average of a minute", f"{os.cpu_count()} {os.getloadavg()[0]:.1f}")
    try:
        taken += server.load("warm", 1, 1.0)[0].answers[200]
        for name, events, target, unit in (
            ("many", MANY, MANY_TARGET, f"events/s, {MANY} in a request"),
            ("single", 1, SINGLE_TARGET, "requests/s of one event"),
        ):
            found, cpu = server.load(name, events, seconds)
            rate = found.answers.get(200, 0) * events / found.seconds
            met &= rate >= target and set(found.answers) == {200}
            show(unit, f"{rate:,.0f}", f"target {target:,}; answers {found.answers}; p99 {found.p99:.0f} ms")
            show(f"  RATIO to the target of {target:,}", f"{rate / target:.2f}")
            show("  cores: server, load", f"{cpu:.2f} {found.cpu:.2f}")
            taken += found.answers.get(200, 0) * events
            memory.append(server.memory)
            found, cpu = server.load(f"{name}-half", events, seconds, target / events / 2)
            met &= found.p99 <= P99_TARGET_MS and set(found.answers) == {200}
            show(f"  p99 at half of it ({target // 2:,}/s)", f"{found.p99:.1f} ms", f"target {P99_TARGET_MS:.0f}")
            show("  RATIO of the target to it", f"{P99_TARGET_MS / found.p99:.1f}")
            show("  p50, worst", f"{found.p50:.1f} {found.worst:.1f} ms", f"cores {cpu:.2f} {found.cpu:.2f}")
            taken += found.answers.get(200, 0) * events
            memory.append(server.memory)
    finally:
        status = server.stop()
    met &= memory[-1] <= memory[1] * MEMORY_TARGET
    show("memory after each measurement, MB", " ".join(f"{each:.0f}" for each in memory))
    show("  RATIO of the last to the second", f"{memory[-1] / memory[1]:.2f}", f"target {MEMORY_TARGET} at most")
    show("exit status after SIGTERM", str(status))
    check(server, taken)
    show("events answered with 200, and in the store", f"{taken:,}")
    return met and status == 0


def main() -> None:
    """Measure, or be the load."""
    if sys.argv[1:2] == ["--load"]:
        result = asyncio.run(Driver(Load(**json.loads(sys.argv[2]))).run())
        print(json.dumps(asdict(result)))
        return
    sys.exit(0 if measure(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS) else 1)


if __name__ == "__main__":
    main()
