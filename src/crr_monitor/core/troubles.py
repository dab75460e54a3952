"""What can be wrong: the troubles of which people are told. See :mod:`crr_monitor.core.notices`."""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

from msgspec import Struct

TroubleKind: TypeAlias = Literal["failed", "overdue", "could-not-ask", "undelivered", "outdated"]
What: TypeAlias = Literal["new", "still", "over"]


class Trouble(Struct, frozen=True):
    """What is wrong now with one pair (``destination`` is empty where it is about a source alone), for one reason.

    ``reason`` is S3's code for what failed, the words of the refusal for what could not be asked, and empty for what
    is overdue. ``bytes`` is ``None`` where they are not known. ``since``: the first write among them, milliseconds.
    Of agents there is an ``account`` in place of a pair: events that one of them could not deliver (``reason`` says
    where they wait), or agents that are not up to date (``account`` names all, ``reason`` says what to do).
    ``at_least``: there may be more ``objects``, as not all could be counted.
    """

    kind: TroubleKind
    source: str
    destination: str
    reason: str
    objects: int
    bytes: int | None = None
    since: int | None = None
    account: str = ""
    at_least: bool = False

    @property
    def key(self) -> str:
        """Names the group: kind, pair and reason, or account. Reasons may be long, so it holds their hash.

        Words of a refusal are no part of it: they may name an object or a request, and differ each time.
        """
        reason = self.reason if self.kind in {"failed", "overdue"} else ""
        account = self.account if self.kind == "undelivered" else ""
        text = f"{self.kind}\n{self.source}\n{self.destination}\n{reason}" + (f"\n{account}" if account else "")
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()
