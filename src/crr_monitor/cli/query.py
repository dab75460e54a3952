"""``crr-monitor query``: SQL over the archive."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click

from crr_monitor.cli.access import Target, aws_options, connect
from crr_monitor.cli.arguments import MOMENT, SIZE, Moment
from crr_monitor.cli.opening import configure
from crr_monitor.cli.output import FORMS, Form, View
from crr_monitor.cli.session import PLACE, CommandError, Session, example, pass_session, say
from crr_monitor.cli.tables import CHUNK, Column, Row, show
from crr_monitor.config import NO_ARCHIVE
from crr_monitor.core.times import DAY_MS
from crr_monitor.history import ask, athena
from crr_monitor.history.coverage import load as load_coverage
from crr_monitor.history.driver import MEMORY, connected
from crr_monitor.history.layout import local_copy
from crr_monitor.history.queries import QUERIES, SLA_SECONDS, NamedQuery
from crr_monitor.history.schema import COVERAGE_FOLDER
from crr_monitor.history.views import Span
from crr_monitor.stores.base import system_clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from crr_monitor.core.coverage import Stretch
    from crr_monitor.history.ask import Answer

QueryForm: TypeAlias = Literal["table", "csv", "json", "ndjson", "parquet"]
ATHENA_DAYS = 30
"""Without ``--since``, what Athena reads of: it bills what it reads."""


PARQUET = "answer.parquet"
AthenaNames: TypeAlias = tuple[str | None, str | None]


class Asked:
    """The options as they were given: what to ask, and whom."""

    def __init__(self, target: Target, archive: str | None, memory: str, athena_names: AthenaNames | None) -> None:
        """``athena_names``: where Athena is asked, work group and database as far as they were named."""
        self.target = target
        self.archive = archive
        self.memory = memory
        self.athena_names = athena_names

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3's
        """A client of AWS."""
        return connect(self.target).client(service)

    @contextmanager
    def folder(self, span: Span | None = None) -> Iterator[tuple[Path, Path]]:
        """The archive as a folder, and one to work in; of a bucket only what the time needs."""
        if self.archive is None:
            message = "name the archive with --archive FOLDER or s3://bucket/prefix (`query` may ask --athena instead)"
            raise click.UsageError(message)
        first, last = span.days if span is not None else ("", "9")
        with TemporaryDirectory(prefix="crr-monitor-") as work:
            cache = Path(work) / "archive"
            folder = local_copy(self.archive, lambda: self.client("s3"), cache, first, last)
            if folder == cache:
                self.coverage(span or Span(0, system_clock()), Path(work))  # for the view
            yield folder, Path(work)

    def coverage(self, span: Span, work: Path) -> list[Stretch]:
        """Who watched when; of a bucket it is fetched to where the view looks for it."""
        assert self.archive is not None  # noqa: S101 - it was opened before
        return load_coverage(self.archive, lambda: self.client("s3"), work / "archive" / COVERAGE_FOLDER, span)


def archive_named(session: Session, archive: str | None) -> str | None:
    """The archive to read: that of the option, else that of the settings."""
    named = configure(session, archive=archive).archive
    return None if named == NO_ARCHIVE else named


@click.command("query", epilog=example("crr-monitor query --archive archive/ --name lag-by-day"))
@click.argument("sql", metavar="[SQL]", required=False)
@click.option(
    "--archive",
    type=PLACE,
    metavar="FOLDER",
    help="The archive: a folder, or s3://bucket/prefix. Default: the setting archive.",
)
@click.option("--list", "listing", is_flag=True, help="Show the shipped queries.")
@click.option("--name", type=click.Choice(list(QUERIES)), metavar="NAME", help="Run a shipped query.")
@click.option("--show", "show_sql", is_flag=True, help="Print the SQL of --name instead of running it.")
@click.option("--since", type=MOMENT, help="With --name: written at this time or later. Default: all, Athena 30 days.")
@click.option("--until", type=MOMENT, help="With --name: written before this time.")
@click.option(
    "--rpo", type=click.IntRange(1), default=SLA_SECONDS, show_default=True, help="With --name: RPO, seconds."
)
@click.option("--athena", "use_athena", is_flag=True, help="Ask Athena instead of reading the archive here.")
@click.option("--workgroup", metavar="NAME", help="Athena's work group. Default: that of the hub.")
@click.option("--database", metavar="NAME", help="Athena's database. Default: the one that belongs to the work group.")
@click.option(
    "--memory", type=SIZE, default=MEMORY, show_default=True, metavar="SIZE", help="What the database here may use."
)
@click.option("-o", "--output", "form", type=click.Choice((*FORMS, "parquet")), default="table", show_default=True)
@aws_options
@pass_session
def command(  # noqa: PLR0913 - one for each option
    session: Session,
    /,
    *,
    sql: str | None,
    archive: str | None,
    listing: bool,
    name: str | None,
    show_sql: bool,
    since: Moment | None,
    until: Moment | None,
    rpo: int,
    use_athena: bool,
    workgroup: str | None,
    database: str | None,
    memory: str,
    form: QueryForm,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Ask the archive with SQL.

    The view copies has one row per copy, its last word; the table archive has all rows as they were written. Only
    SELECT is allowed, and nothing is ever changed.
    """
    if listing:
        _list(form)
        return
    if (sql is None) == (name is None) or (sql is not None and not sql.strip()):
        message = 'give one query: "SELECT ... FROM copies", or --name NAME (--list shows the shipped ones)'
        raise click.UsageError(message)
    if name is None and (since or until):
        message = "--since and --until go with --name: in SQL write WHERE counted_at >= TIMESTAMP '2026-11-01 00:00:00'"
        raise click.UsageError(message)
    span = None if name is None else _span(since, until, use_athena=use_athena)
    text = sql if name is None or span is None else QUERIES[name].sql(span, rpo)
    assert text is not None  # noqa: S101 - one of the two was given
    if show_sql:
        click.echo(text)
        return
    target = Target(region, profile, endpoint_url)
    names = (workgroup, database) if use_athena else None
    _answer(Asked(target, archive_named(session, archive), memory, names), text, span, form)


def _span(since: Moment | None, until: Moment | None, *, use_athena: bool) -> Span:
    now = system_clock()
    end = now + DAY_MS if until is None else until.at(now)  # clocks that are ahead write into the future
    earliest = end - ATHENA_DAYS * DAY_MS if use_athena else 0
    begin = earliest if since is None else since.at(now)
    if begin >= end:
        message = "--since has to be before --until"
        raise click.UsageError(message)
    return Span(begin, end)


def _answer(asked: Asked, sql: str, span: Span | None, form: QueryForm) -> None:
    if form == "parquet":
        _save(asked, sql, span)
        return
    if asked.athena_names is not None:
        _print(_ask_athena(asked.client("athena"), sql, *asked.athena_names), form)
        return
    with asked.folder(span) as (folder, work), ask.opened(folder, work, asked.memory) as database:
        _print(ask.ask(database, sql), form)


def _ask_athena(client: Any, sql: str, workgroup: str | None, database: str | None) -> Answer:  # noqa: ANN401 - boto3's
    group = workgroup or athena.find_workgroup(client)
    return athena.ask(client, sql, group, database or athena.database_of(group))


def _save(asked: Asked, sql: str, span: Span | None) -> None:
    if sys.stdout.isatty():
        message = "Parquet is not for a terminal: send it to a file with > FILE"
        raise CommandError(message)
    if asked.athena_names is not None:
        answer = _ask_athena(asked.client("athena"), sql, *asked.athena_names)
        with TemporaryDirectory(prefix="crr-monitor-") as scratch:
            work = Path(scratch)
            with connected(work, asked.memory, place="TMPDIR") as database:
                athena.save(database, answer, work / PARQUET)
                _send(work / PARQUET)
        return
    with asked.folder(span) as (folder, work), ask.opened(folder, work, asked.memory) as database:
        ask.save(database, sql, work / PARQUET)
        _send(work / PARQUET)


def _send(made: Path) -> None:
    with made.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)


def _print(answer: Answer, form: Form) -> None:
    names = answer.columns

    def body(row: tuple[Any, ...]) -> Mapping[str, Any]:
        return dict(zip(names, row, strict=True))

    def table(rows: Iterable[tuple[Any, ...]]) -> None:
        left = iter(rows)
        first = list(islice(left, CHUNK))
        if not first:
            say("the answer has no rows")
        numbers = [all(isinstance(row[place], int | float | None) for row in first) for place in range(len(names))]
        columns = [Column(name, right=right) for name, right in zip(names, numbers, strict=True)]
        show(columns, (Row(tuple(map(_cell, row))) for row in chain(first, left)))

    View(table=table, body=body, fields=names, rows=lambda row: [body(row)]).print(answer.rows, form)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1 else f"{value:,.3f}".rstrip("0").rstrip(".")
    return str(value)


def _list(form: QueryForm) -> None:
    if form == "parquet":
        message = "the list of queries is not printed as Parquet"
        raise click.UsageError(message)

    def body(query: NamedQuery) -> Mapping[str, Any]:
        return {"name": query.name, "answers": query.answers}

    def table(queries: Iterable[NamedQuery]) -> None:
        show([Column("NAME"), Column("ANSWERS", fold=True)], (Row((query.name, query.answers)) for query in queries))

    view = View(table=table, body=body, fields=("name", "answers"), rows=lambda query: [body(query)])
    view.print(QUERIES.values(), form)
