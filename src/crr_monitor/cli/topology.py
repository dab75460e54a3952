"""``crr-monitor topology``: the replication pairs that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from crr_monitor.cli.arguments import refuse_discovery
from crr_monitor.cli.opening import configure, opened, read_topology
from crr_monitor.cli.output import Form, View, output_option
from crr_monitor.cli.session import Session, example, pass_session, say
from crr_monitor.cli.tables import Column, Row, show
from crr_monitor.cli.words import NOTHING, time_text
from crr_monitor.core.times import format_time
from crr_monitor.core.topology import BucketConfig, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.stores.base import Store


class Entry(Struct, frozen=True):
    """A replication pair: one rule, or without one inferred from what was seen."""

    source: BucketConfig
    destination: BucketConfig
    rule: Rule | None = None
    rule_id: str | None = None


@click.command("topology", epilog=example("crr-monitor topology -o json"))
@click.option("--learn", metavar="FILE", help="Learn the rules in this file first, as ingest --topology does.")
@click.option("--discover", is_flag=True, hidden=True, is_eager=True, expose_value=False, callback=refuse_discovery)
@output_option
@pass_session
def command(session: Session, learn: str | None, form: Form) -> None:
    """List the replication pairs that are known.

    Those that were learned from a topology file come with their rules. Pairs that only showed themselves in the events
    are marked as inferred: of these, nothing is ever expected.
    """
    config = configure(session)
    learned = read_topology(learn) if learn is not None else []
    with opened(config, create=bool(learned)) as store:
        if learned:
            store.learn(learned)
        entries = list(known_pairs(store))
    VIEW.print(entries, form)
    if not entries:
        say("no replication pair is known yet: ingest events, or learn a topology (--learn FILE)")


def known_pairs(store: Store) -> Iterator[Entry]:
    """Every rule that was learned, then the pairs of the statistics that no rule covers."""
    topology = store.topology()
    covered = set()
    for pair in topology.pairs():
        covered.add((pair.source.bucket, pair.destination.bucket))
        yield Entry(pair.source, pair.destination, pair.rule, pair.rule.rule_id)
    seen: dict[tuple[str, str], set[str]] = {}
    for source, destination, rule_id in store.pairs():
        if source and destination and (source, destination) not in covered:
            seen.setdefault((source, destination), set()).add(rule_id)
    for (source, destination), rules in sorted(seen.items()):
        places = [BucketConfig(bucket, *topology.place(bucket)) for bucket in (source, destination)]
        named = rules - {""}
        yield Entry(places[0], places[1], rule_id=named.pop() if len(named) == 1 else None)


def _place(config: BucketConfig) -> dict[str, str]:
    place = {"account": config.account, "region": config.region, "bucket": config.bucket}
    return {name: value for name, value in place.items() if value is not None}


def entry_json(entry: Entry) -> dict[str, Any]:
    """The pair as JSON; unknown is absent, and so is ``since`` where the rule always counts."""
    body: dict[str, Any] = {"source": _place(entry.source), "destination": _place(entry.destination)}
    if entry.rule_id is not None:
        body["rule_id"] = entry.rule_id
    if entry.rule is None:
        return {**body, "inferred": True}
    body |= {
        "inferred": False,
        "state": "enabled" if entry.rule.enabled else "disabled",
        "priority": entry.rule.priority,
        "prefix": entry.rule.prefix,
        "tags": dict(entry.rule.tags),
        "delete_markers": entry.rule.delete_markers,
        "kms": entry.rule.kms,
    }
    if entry.source.since:
        body["since"] = format_time(entry.source.since)
    return body


FIELDS = (
    *(f"{role}_{part}" for role in ("source", "destination") for part in ("account", "region", "bucket")),
    *("rule_id", "inferred", "state", "priority", "prefix", "tags", "delete_markers", "kms", "since"),
)


def _entry_rows(entry: Entry) -> Iterator[dict[str, Any]]:
    body = entry_json(entry)
    for role in ("source", "destination"):
        body |= {f"{role}_{name}": value for name, value in body.pop(role).items()}
    yield body


_COLUMNS = (
    Column("SOURCE", fold=True),
    Column("REGION", wide=True),
    Column("DESTINATION", fold=True),
    Column("REGION", wide=True),
    Column("RULE", fold=True),
    Column("STATE"),
    Column("PRIORITY", right=True, wide=True),
    Column("TAKES", fold=True),
    Column("MARKERS"),
    Column("SINCE", fold=True),
)


def _row(entry: Entry) -> Row:
    rule = entry.rule
    about = (NOTHING,) * 4
    state = "inferred"
    if rule is not None:
        state = "enabled" if rule.enabled else "disabled"
        since = time_text(entry.source.since) if entry.source.since else "always"
        about = (str(rule.priority), _takes(rule), "yes" if rule.delete_markers else "no", since)
    places = [part for place in (entry.source, entry.destination) for part in (place.bucket, place.region or NOTHING)]
    return Row((*places, entry.rule_id or NOTHING, state, *about))


def _takes(rule: Rule) -> str:
    """What the rule's filter lets through."""
    tags = " ".join(f"{key}={value}" for key, value in rule.tags)
    return " ".join(part for part in (f"{rule.prefix}*" if rule.prefix else "", tags) if part) or "all"


def _table(entries: Iterable[Entry]) -> None:
    show(_COLUMNS, map(_row, entries))


VIEW = View(table=_table, body=entry_json, fields=FIELDS, rows=_entry_rows)
