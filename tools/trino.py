"""Run the archive's SQL on Trino, which Amazon Athena's engine is made of; the local AWS's Athena is DuckDB inside.

``.venv/bin/python -m tools.trino [ARGUMENTS OF PYTEST]``. Needs a JDK from 17 on and Maven, which fetches Trino's
server and its connector for Hive and Glue (250 MB, once) from wherever it is configured to; nothing of it becomes a
part of this project. It listens on the loopback interface only, and takes at most 2 GB of memory.
"""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection, HTTPException

from tools.java_server import ROOT, Server, fetch, free_port, java_and_maven, run_tests

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


def main() -> int:
    """Fetch it, start it, run the tests, stop it; gives the exit status of pytest."""
    found = java_and_maven("install a JDK (17 or later) and Maven, or name a Trino with CRR_MONITOR_TEST_TRINO")
    if found is None:
        return 1
    java, mvn = found
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={LIBRARIES}"]
    artifact = f"-Dartifact=io.trino:{CONNECTOR}:{VERSION}:zip"
    unpack = ["dependency:unpack", artifact, f"-DoutputDirectory={PLUGINS}"]
    plugin = PLUGINS / f"{CONNECTOR}-{VERSION}" / f"{CONNECTOR}-{VERSION}.jar"
    fetch(mvn, FOLDER, POM, [(LIBRARIES / f"trino-main-{VERSION}.jar", copy), (plugin, unpack)])
    port = free_port()
    (FOLDER / "Start.java").write_text(START, encoding="utf-8")
    (FOLDER / "config.properties").write_text(CONFIG.format(port=port, plugins=PLUGINS), encoding="utf-8")
    server = Server(
        name="Trino",
        folder=FOLDER,
        arguments=[
            *("-Xmx2G", "-Duser.timezone=UTC", "-Djdk.attach.allowAttachSelf=true"),
            f"-Dconfig={FOLDER / 'config.properties'}",
            *("-cp", f"{LIBRARIES}/*", "Start.java"),
        ],
        variable="CRR_MONITOR_TEST_TRINO",
        tests=["tests/history/test_on_trino.py"],
        seconds=120,
    )
    return run_tests(java, server, port, started)


if __name__ == "__main__":
    sys.exit(main())
