"""Run the archive's SQL on Trino, which Amazon Athena's engine is made of; the local AWS's Athena is DuckDB inside.

``.venv/bin/python -m tools.trino [ARGUMENTS OF PYTEST]``. Needs a JDK from 17 on and Maven, which fetches Trino's
server and its connector for Hive and Glue (250 MB, once) from wherever it is configured to; nothing of it becomes a
part of this project. It listens on the loopback interface only, and takes at most 2 GB of memory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tools.dynamodb_local import free_port

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "trino"
LIBRARIES = FOLDER / "libraries"
PLUGINS = FOLDER / "plugins"
VERSION = "435"
"""The last ones run on Java from 17 on; what is fetched is not the whole distribution, which has 50 connectors."""

CONNECTOR = "trino-hive"
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>crr-monitor</groupId>
  <artifactId>trino</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>io.trino</groupId>
      <artifactId>trino-main</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
START = f"""\
public final class Start {{
    public static void main(String[] arguments) {{
        new io.trino.server.Server().start("{VERSION}");
    }}
}}
"""
"""The distribution's own class for this does nothing else that is needed here, and lies in a part that is not."""

CONFIG = """\
coordinator=true
node-scheduler.include-coordinator=true
node.environment=test
node.bind-ip=127.0.0.1
node.internal-address=127.0.0.1
http-server.http.port={port}
discovery.uri=http://127.0.0.1:{port}
catalog.management=dynamic
catalog.store=memory
plugin.dir={plugins}
query.max-memory=512MB
query.max-memory-per-node=512MB
memory.heap-headroom-per-node=256MB
"""
"""Catalogs are made by the tests, which know where their Glue and S3 are."""

START_SECONDS = 120


def fetch(mvn: str) -> None:
    """Have Maven put the server's libraries and the connector into the folder, unless they are there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "pom.xml").write_text(POM, encoding="utf-8")
    artifact = f"-Dartifact=io.trino:{CONNECTOR}:{VERSION}:zip"
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={LIBRARIES}"]
    unpack = ["dependency:unpack", artifact, f"-DoutputDirectory={PLUGINS}"]
    for made, goal in (
        (LIBRARIES / f"trino-main-{VERSION}.jar", copy),
        (PLUGINS / f"{CONNECTOR}-{VERSION}" / f"{CONNECTOR}-{VERSION}.jar", unpack),
    ):
        if not made.exists():
            subprocess.run([mvn, "--quiet", "--batch-mode", *goal], cwd=FOLDER, check=True)  # noqa: S603 - as above


def started(port: int) -> bool:
    """Whether the server answers, and says that it has started."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v1/info")
        return json.loads(connection.getresponse().read()).get("starting") is False
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()


def answers(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server has started; whether it has."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        if started(port):
            return True
        time.sleep(0.5)
    return False


def main() -> int:
    """Fetch it, start it, run the tests, stop it; gives the exit status of pytest."""
    java, mvn = shutil.which("java"), shutil.which("mvn")
    if java is None or mvn is None:
        print("install a JDK (17 or later) and Maven, or name a Trino with CRR_MONITOR_TEST_TRINO", file=sys.stderr)
        return 1
    fetch(mvn)
    port = free_port()
    (FOLDER / "Start.java").write_text(START, encoding="utf-8")
    (FOLDER / "config.properties").write_text(CONFIG.format(port=port, plugins=PLUGINS), encoding="utf-8")
    command = [
        java,
        "-Xmx2G",
        "-Duser.timezone=UTC",
        "-Djdk.attach.allowAttachSelf=true",
        f"-Dconfig={FOLDER / 'config.properties'}",
        "-cp",
        f"{LIBRARIES}/*",
        "Start.java",
    ]
    with (
        (FOLDER / "log").open("wb") as log,
        subprocess.Popen(command, cwd=FOLDER, stdout=log, stderr=log) as server,  # noqa: S603 - what is named above
    ):
        try:
            if not answers(port, server):
                print(f"Trino did not start: see {FOLDER / 'log'}", file=sys.stderr)
                return 1
            environment = {**os.environ, "CRR_MONITOR_TEST_TRINO": f"http://127.0.0.1:{port}"}
            tests = sys.argv[1:] or ["tests/history/test_on_trino.py"]
            return subprocess.run(  # noqa: S603 - what is named above
                [sys.executable, "-m", "pytest", *tests], cwd=ROOT, env=environment, check=False
            ).returncode
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main())
