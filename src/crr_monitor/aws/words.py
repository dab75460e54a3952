"""Values of a stack's parameters, apart from what is done with them: every function reads settings, and few plan."""

from __future__ import annotations

from typing import Literal, TypeAlias

EventSource: TypeAlias = Literal["CloudTrail", "EventBridge", "S3Notifications"]
StackKind: TypeAlias = Literal["hub", "agent"]
DeniedReads: TypeAlias = Literal["No", "Objects", "All"]
"""Which reads of the replication service at the source are logged, so that a denied one tells why a copy failed."""
