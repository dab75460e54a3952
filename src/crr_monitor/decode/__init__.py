"""From bytes to events: every message kind in which S3 tells of writes, deletions and replication.

:func:`decode` takes one message (a line, a document, or an entry of a list), unwraps it as often as it is wrapped
(SNS, SQS, Lambda, EventBridge) and returns what it proves (:mod:`crr_monitor.core.events`). It never raises: a record
is taken, ignored and counted by kind, or rejected with its bytes and the reason. No I/O, no clock.
"""

from crr_monitor.decode.envelopes import MAX_DEPTH, decode
from crr_monitor.decode.result import Decoded, Malformed

__all__ = ["MAX_DEPTH", "Decoded", "Malformed", "decode"]
