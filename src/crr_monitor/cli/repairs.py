"""The plan of ``crr-monitor retry``: its groups with their manifests, prices and commands, and how they are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct

from crr_monitor.aws.batch_replication import Job, Location, Order
from crr_monitor.cli.output import View
from crr_monitor.cli.tables import paragraph
from crr_monitor.cli.words import size_text, time_text
from crr_monitor.core.repair import Group, RepairPlan
from crr_monitor.core.times import format_time
from crr_monitor.cost.prices import UNDATED, PriceList
from crr_monitor.cost.repair import Quote, quote, repair_usages
from crr_monitor.process.batch_report import Taken
from crr_monitor.process.manifests import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crr_monitor.core.repair import Place, Selection
    from crr_monitor.process.manifests import ManifestFiles
    from crr_monitor.stores.base import Query, Store

ATTEMPTS = "batch-replication"
"""The store's note: how many jobs have ended, by what they were about; and whose reports were taken, by ``job-ID``."""

REMEMBERED = 500
"""So many of them are kept, the last ones."""

TO_FILL_IN = {"account": "ACCOUNT_ID", "region": "REGION", "role": "ROLE_ARN", "work": "WORK_BUCKET"}
"""Stand in a command for what is not known or was not given."""


class Planned(Struct):
    """A group, its manifest and order where it has them, and what became of its job."""

    group: Group
    quote: Quote
    manifest: Manifest | None = None
    order: Order | None = None
    job: Job | None = None
    taken: Taken | None = None


def plan(  # noqa: PLR0913, PLR0917 - what is asked for, and where things go
    store: Store,
    query: Query,
    selection: Selection,
    files: ManifestFiles | None,
    work: Location | None,
    role_arn: str | None,
) -> list[Planned]:
    """Sort what failed into groups, and write their manifests while the records come."""
    repairs = RepairPlan(selection, store.topology())
    for record in store.records(query):
        group = repairs.add(record)
        if group is not None and files is not None:
            files.add(group, record)
    manifests = {} if files is None else files.close()
    attempts = read_attempts(store)
    prices = PriceList()
    planned = []
    for group in repairs.groups():
        manifest = manifests.get(group.name)
        usages = repair_usages(group.versions, group.copies, group.size)
        each = Planned(group, quote(usages, prices), manifest)
        if manifest is not None and group.retry:
            order = _order(group, manifest, work, role_arn)
            each.order = msgspec.structs.replace(order, attempt=attempts.get(order.subject, 0))
        planned.append(each)
    return planned


def _order(group: Group, manifest: Manifest, work: Location | None, role_arn: str | None) -> Order:
    return Order(
        group.source.account or TO_FILL_IN["account"],
        group.source.region or TO_FILL_IN["region"],
        role_arn or TO_FILL_IN["role"],
        work or Location(TO_FILL_IN["work"], "crr-monitor"),
        group.name,
        manifest.md5,
        manifest.sha256,
    )


def read_attempts(store: Store) -> dict[str, int]:
    """How many jobs have ended, by :attr:`Order.subject`; 1 for each ``job-ID`` whose report was taken."""
    note = store.note(ATTEMPTS)
    return {} if note is None else msgspec.json.decode(note, type=dict[str, int])


def count_attempt(store: Store, order: Order) -> None:
    """A job has ended: the next order about the same is another job."""
    _remember(store, order.subject, order.attempt + 1)


def remember_report(store: Store, job: str) -> None:
    """The report of a job (``job-ID``) was taken: an order that finds this job is an order of another one."""
    _remember(store, job, 1)


def _remember(store: Store, name: str, number: int) -> None:
    attempts = read_attempts(store)
    attempts.pop(name, None)
    attempts[name] = number
    store.keep_note(ATTEMPTS, msgspec.json.encode(dict(list(attempts.items())[-REMEMBERED:])))


# ---------------------------------------------------------------------------------------------------- for programs


def taken_body(taken: Taken) -> dict[str, Any]:
    """What a report held, as JSON."""
    return {
        "completed": taken.completed,
        "failed": dict(sorted(taken.failed.items())),
        "untried": dict(sorted(taken.untried.items())),
        "unreadable": taken.unreadable,
        "records_changed": taken.records_changed,
    }


def _job_body(job: Job, taken: Taken | None) -> dict[str, Any]:
    body = {"id": job.id, "status": job.status, "tasks": job.tasks, "succeeded": job.succeeded, "failed": job.failed}
    if job.reasons:
        body["reasons"] = list(job.reasons)
    return body if taken is None else {**body, "report": taken_body(taken)}


def _body(each: Planned) -> dict[str, Any]:
    group = each.group
    place = {"account": group.source.account, "region": group.source.region, "bucket": group.source.bucket}
    body: dict[str, Any] = {
        "source": {name: value for name, value in place.items() if value is not None},
        "retry": group.retry,
        "causes": [
            {"reason": cause.reason, "cause": cause.text, "fix": cause.fix, "retry": cause.retry}
            for cause in group.causes
        ],
        "versions": group.versions,
        "copies": group.copies,
        "bytes": group.size,
        "unknown_sizes": group.unknown_sizes,
        "delete_markers": group.delete_markers,
        "destinations": dict(sorted(group.destinations.items())),
        "notes": list(group.notes),
    }
    if group.oldest_failed_at is not None:
        body["oldest_failed_at"] = format_time(group.oldest_failed_at)
    if group.retry:
        body["price"] = {"usd": float(round(each.quote.usd, 6)), "as_of": each.quote.as_of}
    if each.manifest is not None:
        body["manifest"] = str(each.manifest.path)
    if each.manifest is not None and each.order is not None and each.job is None:
        body["commands"] = list(each.order.commands(each.manifest.path))
    if each.job is not None:
        body["job"] = _job_body(each.job, each.taken)
    return body


FIELDS = (
    *("source_account", "source_region", "source_bucket", "retry", "reasons", "versions", "copies", "bytes"),
    *("delete_markers", "oldest_failed_at", "usd", "manifest", "job_id", "job_status", "succeeded", "failed"),
)


def _rows(each: Planned) -> Iterator[dict[str, Any]]:
    body = _body(each)
    job = body.get("job", {})
    yield {
        **{f"source_{name}": value for name, value in body["source"].items()},
        **{name: value for name, value in body.items() if name in FIELDS},
        "reasons": " ".join(cause.reason for cause in each.group.causes),
        "usd": body.get("price", {}).get("usd"),
        "job_id": job.get("id"),
        "job_status": job.get("status"),
        "succeeded": job.get("succeeded"),
        "failed": job.get("failed"),
    }


# ------------------------------------------------------------------------------------------------------- for people


def place_text(place: Place) -> str:
    """``orders (111122223333, us-east-1)``."""
    where = ", ".join(part for part in (place.account, place.region) if part)
    return (place.bucket or "an unknown source") + (f" ({where})" if where else "")


def quantity_text(group: Group) -> str:
    """How many versions, copies and bytes."""
    text = f"{_count(group.versions, 'version')}, {_count(group.copies, 'failed copy', 'failed copies')}"
    if group.unknown_sizes < group.copies - group.delete_markers:
        text += f", {size_text(group.size)}"
    return text + (f", {group.unknown_sizes:,} of unknown size" if group.unknown_sizes else "")


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def money(told: Quote) -> str:
    """A sum, with the date of its prices."""
    dated = ", not all of them dated" if told.as_of == UNDATED else f" of {told.as_of}"
    return f"{told.usd:,.2f} USD (list prices{dated})"


def taken_text(taken: Taken) -> str:
    """What a report held, in words."""
    parts = [f"{taken.completed:,} replicated", f"{taken.failed.total():,} failed again"]
    parts += [f"{count:,} of them by {reason}" for reason, count in taken.failed.most_common()]
    parts += [f"{count:,} not tried: {reason}" for reason, count in taken.untried.most_common()]
    if taken.unreadable:
        parts.append(f"{taken.unreadable:,} lines could not be read")
    return "; ".join([*parts, f"{taken.records_changed:,} records changed"])


def _table(planned: Iterable[Planned]) -> None:
    for number, each in enumerate(planned):
        if number:
            click.echo()
        _show(each)


def _show(each: Planned) -> None:
    group = each.group
    helps = "" if group.retry else "; a retry does not help"
    paragraph(f"{place_text(group.source)}: {quantity_text(group)}{helps}", "")
    for cause in group.causes:
        paragraph(f"{cause.reason}: {cause.text}", "  ")
        paragraph(f"{'mend first' if cause.retry else 'instead of a retry'}: {cause.fix}", "    ")
    paragraph("to " + ", ".join(f"{name} {count:,}" for name, count in sorted(group.destinations.items())), "  ")
    if group.oldest_failed_at is not None:
        paragraph(f"failing since {time_text(group.oldest_failed_at)} UTC", "  ")
    for note in group.notes:
        paragraph(f"note: {note}", "  ")
    if group.retry:
        paragraph(f"a job costs about {money(each.quote)}", "  ")
    if each.manifest is not None:
        paragraph(f"{'manifest' if group.retry else 'list'}: {each.manifest.path}", "  ")
    if each.job is not None:
        job = each.job
        paragraph(f"job {job.id}: {job.status}, {job.succeeded:,} of {job.tasks:,} succeeded", "  ")
    elif each.manifest is not None and each.order is not None:
        for line in each.order.commands(each.manifest.path):
            click.echo(f"  {line}")
    if each.taken is not None:
        paragraph(f"report: {taken_text(each.taken)}", "  ")


VIEW = View(table=_table, body=_body, fields=FIELDS, rows=_rows)
