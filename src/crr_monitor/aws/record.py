"""What set-up has to remember between its runs, in Parameter Store, below a path that has the stack's token in it.

Regions are noted before anything is made in them, so that whatever happens in between, delete finds it.

A parameter holds 4 KB for free (Systems Manager User Guide, "Parameter tiers"). A document that does not fit,
compressed, is cut to pieces, which its own parameter names: also those that are just being written or removed, so
that none is ever forgotten.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crr_monitor.aws.sessions import AwsError, call

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crr_monitor.aws.plan_model import Stack
    from crr_monitor.aws.sessions import Sessions

REGIONS = "regions"
"""In which Regions set-up has made something."""
AGENTS = "agents"
"""Where a hub kept all its agents before each had a parameter of its own: see ``agent_register``."""
TURN = "turn"
"""The request of CloudFormation that came last; its settings count."""
TOLD = "told"
"""What the hub told an agent."""
BUCKETS = "buckets"
"""What the settings of buckets were before set-up changed them."""
SOURCES = "sources"
"""The source of events, and sources before it that still go on."""
UNREACHED = "unreached"
"""Regions that did not answer the last run, with since when (milliseconds)."""
ANSWERED = "answered"
"""The request of CloudFormation that was answered as time ran out."""
DOCUMENTS = (REGIONS, AGENTS, TOLD, BUCKETS, SOURCES, UNREACHED, ANSWERED, TURN)

PIECE = 4_000
INLINE = 3_000
ABSENT = "ParameterNotFound"


class _Entry(Struct, frozen=True):
    """A document's own parameter: the text itself or where its pieces are, and pieces that may be there besides."""

    text: str = ""
    pieces: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


class Record:
    """Named JSON documents of one stack. Every method may raise ``AwsError``."""

    def __init__(self, sessions: Sessions, stack: Stack) -> None:
        self._client = sessions.client("ssm", stack.region)
        self._path = f"/crr-monitor/{stack.token}/"

    def get(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON was put
        """A document, or ``None``."""
        entry = self._entry(name)
        text = entry.text or "".join(self._read(piece) or "" for piece in entry.pieces)
        return json.loads(zlib.decompress(base64.b64decode(text))) if text else None

    def put(self, name: str, document: Any) -> None:  # noqa: ANN401
        """Remember a document in place of the one before. Killed at any moment, one of the two is there, whole."""
        if self.get(name) == document:
            return
        before = self._entry(name)
        text = base64.b64encode(zlib.compress(json.dumps(document, sort_keys=True).encode())).decode()
        if len(text) <= INLINE:
            after = _Entry(text, (), (*before.pieces, *before.stale))
        else:
            parts = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            pieces = tuple(f"{name}/{digest}-{number}" for number in range(len(parts)))
            self._write_entry(name, _Entry(before.text, before.pieces, (*before.stale, *pieces)))
            for piece, part in zip(pieces, parts, strict=True):
                self._write(piece, part)
            left = {*before.pieces, *before.stale} - {*pieces}
            after = _Entry("", pieces, tuple(sorted(left)))
        self._write_entry(name, after)
        if after.stale:
            self._remove(after.stale)
            self._write_entry(name, _Entry(after.text, after.pieces))

    def forget(self, name: str) -> None:
        """Remove a document."""
        entry = self._entry(name)
        self._remove((*entry.pieces, *entry.stale, name))

    def _entry(self, name: str) -> _Entry:
        text = self._read(name)
        if text is None:
            return _Entry()
        told = json.loads(text)
        return _Entry(told.get("text", ""), tuple(told.get("pieces", ())), tuple(told.get("stale", ())))

    def _write_entry(self, name: str, entry: _Entry) -> None:
        told = {"text": entry.text, "pieces": entry.pieces, "stale": entry.stale}
        self._write(name, json.dumps({key: value for key, value in told.items() if value}))

    def _read(self, name: str) -> str | None:
        try:
            answer = call("ssm:GetParameter", self._client.get_parameter, Name=self._path + name)
        except AwsError as error:
            if error.code == ABSENT:
                return None
            raise
        return str(answer["Parameter"]["Value"])

    def _write(self, name: str, value: str) -> None:
        request = {"Name": self._path + name, "Value": value, "Type": "String", "Overwrite": True}
        call("ssm:PutParameter", self._client.put_parameter, **request)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                call("ssm:DeleteParameter", self._client.delete_parameter, Name=self._path + name)
            except AwsError as error:
                if error.code != ABSENT:
                    raise
