"""``crr-monitor status``: where one object's versions are, and what to do where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crr_monitor.cli.arguments import MOMENT, OBJECT, TEXT, Moment, ObjectName
from crr_monitor.cli.opening import clock_of, configure, opened, tell_clock
from crr_monitor.cli.output import Form, output_option
from crr_monitor.cli.records import record_view
from crr_monitor.cli.session import CommandError, Session, escape, example, pass_session
from crr_monitor.cli.tables import paragraph
from crr_monitor.cli.words import STYLES, duration_text, size_text, time_text
from crr_monitor.core.failures import explain
from crr_monitor.core.model import Status
from crr_monitor.core.times import SECOND_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.config import Config
    from crr_monitor.core.model import Copy, Record
    from crr_monitor.stores.base import Store

PROBLEMS = 3
_EVIDENCE = {
    "replica-event": "the replica was seen",
    "failure-event": "S3 reported it",
    "denied-call": "a call of S3 was denied",
    "head": "S3 said so when it was asked",
    "batch-report": "a batch report says so",
}


@click.command("status", epilog=example('crr-monitor status "s3://orders/2026/11/22/a b.pdf"'))
@click.argument("name", metavar="s3://BUCKET/KEY", type=OBJECT)
@click.option(
    "--version-id", type=TEXT, metavar="ID", help="Only this version. Default: all that are known, newest first."
)
@click.option(
    "--as-of",
    type=MOMENT,
    help="The clock for what is overdue. Default: now; where only old logs were read the newest event.",
)
@output_option
@click.pass_context
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    context: click.Context,
    /,
    *,
    name: ObjectName,
    version_id: str | None,
    as_of: Moment | None,
    form: Form,
) -> None:
    """Show where the versions of one object are.

    BUCKET is its source or a destination. KEY is taken as it is, without URL decoding. Exit status 3: a copy failed, or
    is pending for longer than the RPO (setting rpo_seconds).
    """
    config = configure(session)
    with opened(config, reading=True) as store:
        records = store.versions(name.bucket, name.key, version_id)
        if not records:
            raise CommandError(_unknown(store, name, version_id, config))
        clock = clock_of(store, config, as_of)
    target = config.rpo_seconds * SECOND_MS
    table = _Blocks(clock.at, target)
    record_view(uncertain=True, table=table.show).print(records, form)
    if any(copy.status is Status.PENDING for record in records for copy in record.visible_copies):
        tell_clock(clock)
    if any(is_problem(record, clock.at, target) for record in records):
        context.exit(PROBLEMS)


def is_problem(record: Record, as_of: int, target: int) -> bool:
    """Whether a copy failed, or is pending past its deadline; milliseconds."""
    overdue = as_of - record.sort_at > target
    return any(
        copy.status is Status.FAILED or (copy.status is Status.PENDING and overdue) for copy in record.visible_copies
    )


def _unknown(store: Store, name: ObjectName, version_id: str | None, config: Config) -> str:
    if version_id is not None:
        others = len(store.versions(name.bucket, name.key))
        if others:
            return f"nothing is known of version {version_id} of {name}, but of {others} other: leave out --version-id"
    reasons = [
        "no event of it was ingested",
        "no rule takes it",
        f"it was settled and did not change for {config.retention_hours} hours",
        "its bucket is neither source nor destination",
    ]
    if "%" in name.key or "+" in name.key:
        reasons.append("the key is URL-encoded here: write it as it is")
    return f"nothing is known of {name}: " + ", or ".join(reasons)


class _Blocks:
    """A block of text for each record, with a part for each copy."""

    def __init__(self, as_of: int, target: int) -> None:
        self._as_of = as_of
        self._target = target

    def show(self, records: Iterable[Record]) -> None:
        for number, record in enumerate(records):
            if number:
                click.echo()
            self._show(record)

    def _show(self, record: Record) -> None:
        click.echo(click.style(escape(f"s3://{record.source_bucket or '?'}/{record.key}"), bold=True))
        self._pair("version", record.version_id)
        if record.delete_marker:
            self._pair("kind", "delete marker")
        else:
            self._pair("size", size_text(record.size))
        written = (
            f"{time_text(record.written_at)} UTC"
            if record.written_at is not None
            else "not known: its event is missing"
        )
        self._pair("written", written)
        place = ", ".join(part for part in (record.source_account, record.source_region) if part)
        if place:
            self._pair("source", place)
        self._pair("status", record.status.name, style=STYLES.get(record.status.name))
        if record.undecided:
            paragraph("it was written in several buckets, and nothing tells yet which of them is the source", "  ")
        for copy in record.copies:
            self._copy(record, copy)

    def _copy(self, record: Record, copy: Copy) -> None:
        about = [copy.account, copy.region, f"rule {copy.rule_id}" if copy.rule_id else None]
        place = ", ".join(part for part in about if part)
        click.echo()
        arrow = f"  -> {copy.bucket or 'a destination that no message named'}" + (f" ({place})" if place else "")
        status = click.style(copy.status.name, fg=STYLES.get(copy.status.name))
        click.echo(f"{escape(arrow)}: {status}")
        for text in self._facts(record, copy):
            paragraph(text, "     ")

    def _facts(self, record: Record, copy: Copy) -> Iterator[str]:
        said = f" ({_EVIDENCE[copy.evidence]})" if copy.evidence in _EVIDENCE else ""
        if copy.status is Status.COMPLETED:
            yield self._completed(copy) + said
        elif copy.status is Status.PENDING:
            yield self._pending(record)
        elif copy.status is Status.SOURCE_DELETED:
            yield "the version was deleted at the source before a replica was seen"
        elif copy.status is Status.NOT_ELIGIBLE:
            yield "S3 says that no rule takes it" + said
        elif copy.status is Status.UNCERTAIN:
            yield "whether a rule takes it is not known: it goes by tags, and these are not in the events"
        if copy.failed_at is not None or copy.status is Status.FAILED:
            yield from _failure(copy, said if copy.status is Status.FAILED else "")
        if copy.metadata_failed_at is not None or copy.metadata_failure_reason is not None:
            reason = copy.metadata_failure_reason or "reason unknown"
            yield f"a later change of its tags or ACL failed at {time_text(copy.metadata_failed_at)} UTC: {reason}"

    def _completed(self, copy: Copy) -> str:
        if copy.replicated_at is None:
            return "the replica is there, since when is not known"
        lag = f", {duration_text(copy.lag_ms)} after the write" if copy.lag_ms is not None else ", lag not known"
        return f"replicated at {time_text(copy.replicated_at)} UTC{lag}"

    def _pending(self, record: Record) -> str:
        age = max(0, self._as_of - record.sort_at)
        due = age - self._target
        state = f"overdue by {duration_text(due)}" if due > 0 else f"due in {duration_text(-due)}"
        return f"waiting for {duration_text(age)} at {time_text(self._as_of)} UTC, {state}"

    def _pair(self, name: str, value: str, style: str | None = None) -> None:
        click.echo(f"  {name:<8} {click.style(escape(value), fg=style)}")


def _failure(copy: Copy, said: str) -> Iterator[str]:
    """The latest failure in words; of a copy that arrived later it is history."""
    when = f" at {time_text(copy.failed_at)} UTC" if copy.failed_at is not None else ""
    before = "" if copy.status is Status.FAILED else "before that, it "
    yield f"{before}failed{when}: {copy.failure_reason or 'no reason was told'}{said}"
    if copy.status is not Status.FAILED:
        return
    reason = explain(copy.failure_reason)
    if reason is None:
        yield "cause: not in the catalogue of reasons"
        yield "fix: see the replication rule and the role's permissions, then retry with S3 Batch Replication"
        return
    yield f"cause: {reason.cause}"
    yield f"fix: {reason.fix}"
    yield "retry: " + ("helps once that is done (S3 Batch Replication)" if reason.retry else "does not help")
