"""The sandbox as its user holds it: starts the process, makes clients, asks for trouble, waits, stops."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from crr_monitor.sandbox.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

HOST = "127.0.0.1"
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from crr_monitor.sandbox.server import main; main()"
_START_SECONDS = 60.0
_POLL_SECONDS = 0.01


class SandboxError(Exception):
    """The sandbox did not start, does not answer, or was asked for something that it does not know."""


def _environment(port: int, folder: str, *, auth: bool) -> dict[str, str]:
    """All that the emulator and the functions that it runs find in their environment.

    No credentials, no profile, no metadata service; and whatever would leave this machine by HTTP ends at a closed
    port.
    """
    closed = f"http://{HOST}:9"
    return {
        "PATH": os.defpath,
        "HOME": folder,
        "TMPDIR": folder,
        "PYTHONUTF8": "1",
        "GATEWAY_PORT": str(port),
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "AUTH": "true" if auth else "false",
        "LOG_LEVEL": "WARNING",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "HTTP_PROXY": closed,
        "HTTPS_PROXY": closed,
        "http_proxy": closed,
        "https_proxy": closed,
        "NO_PROXY": f"{HOST},localhost",
        "no_proxy": f"{HOST},localhost",
    }


class Sandbox:
    """A local AWS of any number of accounts and Regions; a context manager.

    Everything listens on the loopback interface, and no request can leave the machine: clients get the endpoint and
    credentials of the sandbox, whatever the environment holds. The process and all that it started end with
    :meth:`stop`, and by themselves when this process ends, even if it is killed.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.endpoint = ""
        self._folder = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._lock = threading.Lock()
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            SandboxError: it ended instead; the text is what it said last.
        """
        self._folder = tempfile.mkdtemp(prefix="crr-monitor-sandbox-")
        inner = Path(self._folder, "tmp")
        inner.mkdir()
        source = str(Path(__file__).resolve().parents[2])
        log = Path(self._folder, "log")
        with socket.create_server((HOST, 0), backlog=256) as listener, log.open("wb") as errors:
            port, descriptor = listener.getsockname()[1], listener.fileno()
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-c", _START, source, str(descriptor), self._folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(port, str(inner), auth=self.settings.auth),
                pass_fds=(descriptor,),
                start_new_session=True,
            )
        self.endpoint = f"http://{HOST}:{port}"
        try:
            self._await_ready(self._process, log)
        except SandboxError:
            self.stop()
            raise

    def _await_ready(self, process: subprocess.Popen[bytes], log: Path) -> None:
        if process.stdin is None or process.stdout is None:
            message = "the sandbox's process has no pipes"
            raise SandboxError(message)
        alarm = threading.Timer(_START_SECONDS, process.kill)
        alarm.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(self.settings.as_json()).encode() + b"\n")
                process.stdin.flush()
            line = process.stdout.readline()
        finally:
            alarm.cancel()
        if not line:
            message = f"the sandbox did not start:\n{log.read_text(errors='replace')[-4000:]}"
            raise SandboxError(message)
        self.state()

    @property
    def log(self) -> str:
        """What the process has written to its standard error."""
        return Path(self._folder, "log").read_text(errors="replace") if self._folder else ""

    def stop(self) -> None:
        """End the process and everything that it started; a second call does nothing."""
        process, self._process = self._process, None
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it is the leader of its own group
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    # AWS -----------------------------------------------------------------------------------------------------------

    def session(self, account: str, region: str) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """A boto3 session of an account's root user. Its clients need ``endpoint_url=sandbox.endpoint``."""
        boto3 = importlib.import_module("boto3")
        return boto3.Session(
            aws_access_key_id=account,
            aws_secret_access_key="test",  # noqa: S106 - the emulator's
            region_name=region,
        )

    def client(self, service: str, account: str, region: str) -> Any:  # noqa: ANN401
        """A boto3 client of one service; made once for each account and Region."""
        name = (service, account, region)
        with self._lock:
            if name not in self._clients:
                config = importlib.import_module("botocore.config").Config(
                    retries={"total_max_attempts": 3, "mode": "standard"}, proxies={}, max_pool_connections=32
                )
                session = self.session(account, region)
                self._clients[name] = session.client(service, endpoint_url=self.endpoint, config=config)
            return self._clients[name]

    # Control -------------------------------------------------------------------------------------------------------

    def _ask(self, path: str, /, **body: object) -> dict[str, Any]:
        if self._process is None:
            message = "the sandbox is not started; start() it, or use it in a with block"
            raise SandboxError(message)
        given = {name: value for name, value in body.items() if value is not None}
        request = urllib.request.Request(  # noqa: S310 - our own endpoint
            f"{self.endpoint}/_sandbox/{path}", json.dumps(given).encode(), {"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=60) as answer:
                document: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise SandboxError(json.load(error)["error"]) from error
        except OSError as error:
            message = f"the sandbox at {self.endpoint} does not answer: {error}"
            raise SandboxError(message) from error
        return document

    def state(self) -> dict[str, Any]:
        """What is in flight: ``pending``, ``invocations``, ``held``, ``queues``, ``functions``, ..."""
        return self._ask("state")

    def settle(self, timeout: float = 30.0, *, functions: bool = False) -> None:
        """Wait until nothing is in flight; what an outage holds is not.

        With ``functions`` also until every queue and stream that a function reads is empty; a message that the function
        always refuses keeps it waiting until the queue's redrive policy takes it away.

        Raises:
            SandboxError: it takes longer than ``timeout`` seconds, or something failed inside the sandbox.
        """
        deadline = time.monotonic() + timeout
        while True:
            state = self.state()
            if state["failures"]:
                message = f"failures inside the sandbox: {state['failures']}"
                raise SandboxError(message)
            waiting = functions and any(state["functions"].values())
            if not state["pending"] and not any(state["invocations"].values()) and not waiting:
                return
            if time.monotonic() > deadline:
                message = f"still in flight after {timeout} s: {state}"
                raise SandboxError(message)
            time.sleep(_POLL_SECONDS)

    def outage(self, *, bucket: str | None = None, region: str | None = None) -> int:
        """Put a bucket or a Region out of order for replication: what comes from there or goes there stays PENDING."""
        match = {name: value for name, value in (("bucket", bucket), ("region", region)) if value}
        return int(self._ask("add-fault", action="outage", match=match)["number"])

    def fault(self, action: str, **options: Any) -> int:  # noqa: ANN401 - see Fault
        """Put a fault in force; returns its number for :meth:`end_fault`.

        ``drop``, ``duplicate``, ``delay`` and ``reorder`` strike messages; ``error`` API calls (``code``, ``status``);
        ``refuse`` single records of a call to Firehose (``resource``: the stream);
        ``fail`` replication (``code``: S3's reason). Options: ``match`` (messages: ``kind``, which is ``notification``,
        ``event`` or ``trail``, ``bucket``, ``account``, ``region``, ``name``; calls: ``service``, ``operation``,
        ``account``, ``region``, ``resource``; replication: ``bucket``, ``destination``, ``key``), ``probability``,
        ``times``, ``seconds``.
        """
        return int(self._ask("add-fault", action=action, **options)["number"])

    def end_fault(self, number: int | None = None) -> None:
        """End one fault or outage, or all; what waited goes on."""
        self._ask("end-fault", number=number)

    def retry(self, bucket: str, key: str | None = None, version_id: str | None = None) -> int:
        """Replicate failed versions again, as S3 Batch Replication does; returns how many copies were started."""
        return int(self._ask("retry", bucket=bucket, key=key, version_id=version_id)["copies"])

    def run_rule(self, account: str, region: str, rule: str, bus: str = "default") -> int:
        """Let a scheduled EventBridge rule fire now; returns the number of its targets."""
        return int(self._ask("run-rule", account=account, region=region, rule=rule, bus=bus)["targets"])

    def organization(self, management: str, *members: str) -> str:
        """Make an organization of accounts (policies' ``aws:PrincipalOrgID``, organization trails); returns its id."""
        return str(self._ask("organization", management=management, members=list(members))["id"])

    def expire(self) -> int:
        """Delete what has expired in all DynamoDB tables now, with the stream records of it; returns how many items."""
        return int(self._ask("expire")["items"])
