"""Run the stores' tests on Amazon's DynamoDB Local, which refuses expressions that emulators let pass.

``.venv/bin/python -m tools.dynamodb_local [ARGUMENTS OF PYTEST]``. Needs Java 17 and Maven, which fetches DynamoDB
Local from wherever it is configured to; nothing of it becomes a part of this project.
"""

from __future__ import annotations

import socket
import sys

from tools.java_server import ROOT, Server, fetch, free_port, java_and_maven, run_tests

FOLDER = ROOT / "build" / "dynamodb-local"
LIBRARIES = FOLDER / "libraries"
VERSION = "2.5.4"
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>crr-monitor</groupId>
  <artifactId>dynamodb-local</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>com.amazonaws</groupId>
      <artifactId>DynamoDBLocal</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
MAIN_CLASS = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"


def listens(port: int) -> bool:
    """Whether the server takes connections."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def main() -> int:
    """Fetch it, start it, run the tests, stop it; gives the exit status of pytest."""
    found = java_and_maven("install Java 17 and Maven, or name an endpoint with CRR_MONITOR_TEST_DYNAMODB_ENDPOINT")
    if found is None:
        return 1
    java, mvn = found
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={LIBRARIES}"]
    fetch(mvn, FOLDER, POM, [(LIBRARIES / f"DynamoDBLocal-{VERSION}.jar", copy)])
    port = free_port()
    server = Server(
        name="DynamoDB Local",
        folder=FOLDER,  # where it is started it leaves a file
        arguments=[
            f"-Djava.library.path={LIBRARIES}",
            *("-cp", f"{LIBRARIES}/*", MAIN_CLASS),
            *("-inMemory", "-port", str(port)),
        ],
        variable="CRR_MONITOR_TEST_DYNAMODB_ENDPOINT",
        tests=["tests/stores/test_dynamodb.py", "tests/stores/test_contract.py", "tests/stores/test_large_topology.py"],
        seconds=60,
    )
    return run_tests(java, server, port, listens)


if __name__ == "__main__":
    sys.exit(main())
