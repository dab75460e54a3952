"""What is told of agents: undelivered events by account, and which have to be deployed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crr_monitor.core.agent_notes import AgentQueue, AgentsNote, agent_troubles, decode_agents, encode_agents
from crr_monitor.core.notices import Notice, Told, decide, remember
from crr_monitor.core.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.factories import AT

if TYPE_CHECKING:
    from crr_monitor.core.troubles import Trouble

QUEUE = AgentQueue("crr-monitor-ba9876543210-undelivered", {"eu-west-1": 1_200, "eu-central-1": 1})
COMMAND = "with the credentials of 444455556666:\n  crr-monitor deploy agent --region eu-west-1"
BOTH = AgentsNote({"444455556666": QUEUE}, ("444455556666",), COMMAND)


def told(*troubles: Trouble) -> list[Notice]:
    """What is said of troubles that are new."""
    return decide(troubles, Told(), AT)


def test_note() -> None:
    """The note is read back, and is empty where nobody looked; of nothing there is no trouble."""
    assert decode_agents(encode_agents(BOTH)) == BOTH
    assert decode_agents(None) == AgentsNote()
    assert agent_troubles(AgentsNote({"1": AgentQueue("queue")})) == []
    assert (BOTH.events, AgentsNote().events) == (1_201, 0)


def test_undelivered() -> None:
    """The notice names account, queue and Regions, and says what to do; it is the same trouble with other numbers."""
    notice = told(*agent_troubles(BOTH))[0]
    assert notice.subject == "CRR Monitor: 1,201 events not delivered by the agent of 444455556666"
    assert f"Where: in that account's queue {QUEUE.name}: 1 in eu-central-1, 1,200 in eu-west-1." in notice.text
    assert "Fix: name the account in the hub's AgentAccounts" in notice.text
    assert notice.to_json()["account"] == "444455556666"
    less = agent_troubles(AgentsNote({"444455556666": AgentQueue(QUEUE.name, {"eu-west-1": 1})}))[0]
    other = agent_troubles(AgentsNote({"777788889999": AgentQueue(QUEUE.name, {"eu-west-1": 1})}))[0]
    assert less.key == notice.key != other.key


def test_outdated() -> None:
    """All agents that have to be deployed again are one notice with the command, told once a day, not each hour."""
    trouble = agent_troubles(BOTH)[1]
    state, subjects = Told(), []
    for hour in range(26):
        notices = decide([trouble], state, AT + hour * HOUR_MS)
        state = remember(state, [trouble], notices, AT + hour * HOUR_MS)
        subjects += [(hour, notice.what, notice.subject) for notice in notices]
    subject = "CRR Monitor: 1 agent to deploy again, 444455556666"
    assert subjects == [(0, "new", subject), (24, "still", subject)]
    assert f"\nFix:\n{COMMAND}\n" in told(trouble)[0].text


def test_over() -> None:
    """That it is over is told of both, without S3 or buckets."""
    troubles = agent_troubles(BOTH)
    state = remember(Told(), troubles, decide(troubles, Told(), AT), AT)
    state = remember(state, [], [], AT + HOUR_MS)
    over = decide([], state, AT + DAY_MS + MINUTE_MS)
    assert [(notice.subject, notice.text.partition(". ")[0]) for notice in over] == [
        (
            "CRR Monitor: over: events not delivered by the agent of 444455556666",
            "Nothing waits undelivered in account 444455556666 any more",
        ),
        ("CRR Monitor: over: agents to deploy again", "All agents are as this hub needs them"),
    ]
