"""Run the stores' tests on Amazon's DynamoDB Local, which refuses expressions that emulators let pass.

``.venv/bin/python -m tools.dynamodb_local [ARGUMENTS OF PYTEST]``. Needs Java 17 and Maven, which fetches DynamoDB
Local from wherever it is configured to; nothing of it becomes a part of this project.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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
SERVER = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
START_SECONDS = 60


def fetch(mvn: str) -> None:
    """Have Maven put DynamoDB Local and all that it needs into the folder, unless it is there."""
    if (LIBRARIES / f"DynamoDBLocal-{VERSION}.jar").exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "pom.xml").write_text(POM, encoding="utf-8")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={LIBRARIES}"]
    subprocess.run([mvn, "--quiet", "--batch-mode", *goal], cwd=FOLDER, check=True)  # noqa: S603 - what is named above


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server takes connections; whether it does."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False


def main() -> int:
    """Fetch it, start it, run the tests, stop it; gives the exit status of pytest."""
    java, mvn = shutil.which("java"), shutil.which("mvn")
    if java is None or mvn is None:
        print("install Java 17 and Maven, or name an endpoint with CRR_MONITOR_TEST_DYNAMODB_ENDPOINT", file=sys.stderr)
        return 1
    fetch(mvn)
    port = free_port()
    command = [
        java,
        f"-Djava.library.path={LIBRARIES}",
        "-cp",
        f"{LIBRARIES}/*",
        SERVER,
        "-inMemory",
        "-port",
        str(port),
    ]
    with (
        (FOLDER / "log").open("wb") as log,
        # Where it is started it leaves a file.
        subprocess.Popen(command, cwd=FOLDER, stdout=log, stderr=log) as server,  # noqa: S603 - what is named above
    ):
        try:
            if not answers(port, server):
                print(f"DynamoDB Local did not start: see {FOLDER / 'log'}", file=sys.stderr)
                return 1
            environment = {**os.environ, "CRR_MONITOR_TEST_DYNAMODB_ENDPOINT": f"http://127.0.0.1:{port}"}
            tests = sys.argv[1:] or ["tests/stores/test_dynamodb.py", "tests/stores/test_contract.py"]
            return subprocess.run(  # noqa: S603 - what is named above
                [sys.executable, "-m", "pytest", *tests], cwd=ROOT, env=environment, check=False
            ).returncode
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main())
