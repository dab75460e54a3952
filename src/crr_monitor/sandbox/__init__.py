"""A local AWS in which S3 replication works, for the demo and the tests only; no part of the product imports it.

``ministack`` (an extra; the version is pinned in :mod:`crr_monitor.sandbox.points`) runs in a process of its own on the
loopback interface and serves S3, EventBridge, CloudFormation, Lambda and the rest. What it lacks for this project is
added here, inside that process: asynchronous replication, the messages that AWS sends about it, delivery between
event buses, CloudTrail data events, a few CloudFormation types, and faults on request. Each behaviour names the AWS
page it follows.

>>> with Sandbox() as sandbox:
...     s3 = sandbox.client("s3", account="111122223333", region="us-east-1")
"""

from crr_monitor.sandbox.local import Sandbox, SandboxError
from crr_monitor.sandbox.settings import Latency, Settings

__all__ = ["Latency", "Sandbox", "SandboxError", "Settings"]
