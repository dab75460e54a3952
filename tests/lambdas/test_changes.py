"""What set-up is told: many events together are as the newest word of each sender."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.aws.agent_register import Told
from crr_monitor.lambdas.changes import Heard, hear

CHANGED = {"source": "aws.s3", "detail-type": "AWS API Call via CloudTrail", "time": "2026-11-22T12:00:00Z"}


def announcement(account: str, digest: str, second: int = 0) -> dict[str, Any]:
    """What an agent says of itself."""
    return {
        "source": "crr-monitor.agent",
        "detail-type": "CRR Monitor Agent Is Set Up",
        "account": account,
        "region": "eu-west-1",
        "time": f"2026-11-22T12:00:{second:02}Z",
        "detail": {"told": {"destinations": [], "topic_regions": []}, "digest": digest},
    }


def removal(account: str, second: int = 0) -> dict[str, Any]:
    """What an agent says when it goes."""
    return {**announcement(account, "", second), "detail-type": "CRR Monitor Agent Is Removed"}


def word(destinations: list[str], second: int = 0) -> dict[str, Any]:
    """What the hub tells an agent."""
    return {
        "source": "crr-monitor.hub",
        "detail-type": "CRR Monitor Destinations",
        "account": "444455556666",
        "time": f"2026-11-22T12:00:{second:02}Z",
        "detail": {"destinations": destinations, "topic_regions": []},
    }


def digests(heard: Heard) -> dict[str, str | None]:
    """The digest that each agent said last; ``None`` where it goes."""
    return {account: None if said is None else said.digest for account, said in heard.agents.items()}


def test_agents_only() -> None:
    """What agents say of themselves is kept for each, and is no reason to look at everything."""
    heard = hear([announcement("1", "a"), announcement("2", "b"), announcement("1", "c", 1), removal("2", 1)])
    assert (digests(heard), heard.everything, heard.empty) == ({"1": "c", "2": None}, False, False)


def test_changed_rules() -> None:
    """A changed rule among the events, an hourly tick, or an empty call makes everything be looked at."""
    together: list[list[dict[str, Any]]] = [[CHANGED], [announcement("1", "a"), CHANGED], [{}]]
    assert [hear(events).everything for events in together] == [True] * 3
    assert hear([announcement("1", "a"), CHANGED]).trigger == "AWS API Call via CloudTrail, CRR Monitor Agent Is Set Up"


def test_word_of_the_hub() -> None:
    """Of several words of the hub the newest counts, in whatever order they come."""
    heard = hear([word(["new"], 5), word(["old"], 4)])
    assert (heard.told, heard.everything) == ({"destinations": ["new"], "topic_regions": []}, True)
    assert Told(**{name: tuple(value) for name, value in (heard.told or {}).items()}).destinations == ("new",)


def test_words_of_one_second() -> None:
    """Of words of the same second the one that was sent last counts."""
    assert hear([word(["old"]), word(["new"])]).told == {"destinations": ["new"], "topic_regions": []}


def test_what_is_not_understood() -> None:
    """Nonsense is told by its place, with sender and reason, and keeps nobody else from being heard."""
    nonsense = {**announcement("2", "b"), "detail": {"digest": 1}}
    bodies = ["{", json.dumps(nonsense), json.dumps(announcement("1", "a")), "[]", json.dumps(word(1))]  # type: ignore[arg-type]
    heard = hear(bodies)
    assert (digests(heard), heard.told, heard.everything) == ({"1": "a"}, None, False)
    assert sorted(heard.malformed) == [0, 1, 3, 4]
    assert heard.malformed[1].startswith("what account 2 sent (CRR Monitor Agent Is Set Up) is not understood: ")


def test_nothing_but_nonsense() -> None:
    """Where nothing was understood there is nothing to do: an account cannot keep the hub busy with that."""
    assert hear(["{", json.dumps({**announcement("2", "b"), "detail": []})]).empty


SAID = st.builds(
    lambda account, second, goes: removal(account, second) if goes else announcement(account, f"{second}", second),
    st.sampled_from(["1", "2", "3"]),
    st.integers(0, 59),
    st.booleans(),
)


@given(
    st.lists(SAID, unique_by=lambda event: (event["account"], event["time"])).flatmap(
        lambda events: st.tuples(st.just(events), st.permutations(events))
    )
)
def test_order_does_not_matter(both: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    """Whatever order events come in, the same is heard; and one that came twice changes nothing."""
    events, others = both
    assert digests(hear(events)) == digests(hear(others)) == digests(hear([*others, *events]))
