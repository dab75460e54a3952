"""What the hub's set-up leaves for the look about agents: what they could not deliver, which are not up to date.

Set-up asks agents each hour through their role, as only it has to know them all; the look tells people.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from crr_monitor.core.troubles import Trouble

AGENTS_NOTE = "agents"
"""Name of the note in which set-up keeps what it found about agents in its last run."""


class AgentQueue(Struct, frozen=True):
    """Events that rules of one account could not deliver: they wait in a queue of this name, so many in each Region."""

    name: str
    regions: dict[str, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """In all Regions."""
        return sum(self.regions.values())


class AgentsNote(Struct, frozen=True):
    """By account what is undelivered; and ``outdated``: accounts whose agent has to be deployed again, with how."""

    undelivered: dict[str, AgentQueue] = field(default_factory=dict)
    outdated: tuple[str, ...] = ()
    cure: str = ""

    @property
    def events(self) -> int:
        """What all agents could not deliver."""
        return sum(queue.events for queue in self.undelivered.values())


def encode_agents(note: AgentsNote) -> bytes:
    """The note of one run."""
    return msgspec.json.encode(note)


def decode_agents(body: bytes | None) -> AgentsNote:
    """The note, empty where no set-up ever looked."""
    return AgentsNote() if body is None else msgspec.json.decode(body, type=AgentsNote)


def agent_troubles(note: AgentsNote) -> list[Trouble]:
    """One trouble for each account with undelivered events, and one for all agents that are not up to date."""
    found = [
        Trouble("undelivered", "", "", _where(queue), queue.events, account=account)
        for account, queue in note.undelivered.items()
        if queue.events
    ]
    if note.outdated:
        found.append(Trouble("outdated", "", "", note.cure, len(note.outdated), account=", ".join(note.outdated)))
    return found


def _where(queue: AgentQueue) -> str:
    regions = ", ".join(f"{count:,} in {region}" for region, count in sorted(queue.regions.items()) if count)
    return f"queue {queue.name}: {regions}"
