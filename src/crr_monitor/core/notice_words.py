"""The words of notices: subjects and texts that a person can act on. See :mod:`crr_monitor.core.notices`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crr_monitor.core.failures import explain
from crr_monitor.core.statistics import UNKNOWN_REASON
from crr_monitor.core.times import DAY_MS, format_time

if TYPE_CHECKING:
    from crr_monitor.core.troubles import Trouble, What

PREFIX = "CRR Monitor: "
"""How every subject begins."""

SUBJECT_CHARACTERS = 99
"""SNS API Reference, ``Publish``: a subject has less than 100 characters, no line breaks and no control characters."""

KEPT_MS = 14 * DAY_MS
"""Unsettled records leave the store after this time: a trouble as old as this may be over only for that."""

_KILO = 1_024
_PLAIN = re.compile(r"[A-Za-z0-9_.:/-]+")
_NOT_PLAIN = re.compile(r"[^ -~]")


def subject(what: What, trouble: Trouble) -> str:
    """One line: how many, of which pair, why."""
    if trouble.account:
        return ascii_subject(PREFIX + _subject_of_agent(what, trouble))
    state = {"failed": "failed", "overdue": "overdue", "could-not-ask": "could not ask about"}[trouble.kind]
    count = f"{least(trouble)}{number(trouble.objects)}"
    if what == "over":
        head = f"over: {state}"
    elif trouble.kind == "could-not-ask":
        head = f"{state} {count}"
    else:
        head = f"{count} {state}"
    reason = f" ({trouble.reason})" if trouble.reason and trouble.kind == "failed" else ""
    return ascii_subject(f"{PREFIX}{head}, {_pair(trouble)}{reason}")


def _subject_of_agent(what: What, trouble: Trouble) -> str:
    if trouble.kind == "outdated":
        some = _count(trouble.objects, "agent", "agents")
        return "over: agents to deploy again" if what == "over" else f"{some} to deploy again, {trouble.account}"
    some = "events" if what == "over" else _count(trouble.objects, "event", "events")
    return f"{'over: ' if what == 'over' else ''}{some} not delivered by the agent of {trouble.account}"


def ascii_subject(text: str) -> str:
    """Text as a subject: cut, without line breaks, other characters than ASCII's printable ones replaced."""
    plain = _NOT_PLAIN.sub("?", " ".join(text.split()))
    return plain if len(plain) <= SUBJECT_CHARACTERS else plain[: SUBJECT_CHARACTERS - 3] + "..."


def while_it_lasts(what: What, trouble: Trouble, first_at: int, command: str) -> list[str]:
    """Lines for a trouble that is there: what, why, how it is mended, and the commands."""
    lines = [_summary(trouble)]
    if what == "still":
        lines.append(f"This goes on since it was first told at {_time(first_at)}.")
    words = {
        "failed": _failed,
        "overdue": _overdue,
        "could-not-ask": _could_not_ask,
        "undelivered": _undelivered,
        "outdated": _outdated,
    }
    return [*lines, "", *words[trouble.kind](trouble, command)]


def _summary(trouble: Trouble) -> str:
    if trouble.kind == "undelivered":
        events = _count(trouble.objects, "event", "events")
        return f"Rules in account {trouble.account} could not deliver {events} to this hub."
    if trouble.kind == "outdated":
        return f"These accounts' agents are not as this version of the hub needs them: {trouble.account}."
    size = "" if trouble.bytes is None else f" ({_size(trouble.bytes)})"
    since = "" if trouble.since is None else f", the first of them written at {_time(trouble.since)}"
    copies = _count(trouble.objects, "copy", "copies") + size
    if trouble.kind == "failed":
        return f"{copies} from {_name(trouble.source)} to {_name(trouble.destination)} failed{since}."
    if trouble.kind == "overdue":
        return f"{copies} from {_name(trouble.source)} to {_name(trouble.destination)} should be there by now{since}."
    versions = least(trouble) + _count(trouble.objects, "overdue object version", "overdue object versions")
    return f"S3 gave no answer about {versions} of {_name(trouble.source)}, so it is not known where the copies are."


def least(trouble: Trouble) -> str:
    """What stands before a number of objects that may be too small."""
    return "at least " if trouble.at_least else ""


def _failed(trouble: Trouble, command: str) -> list[str]:
    reason = explain(trouble.reason)
    lines = []
    if trouble.reason == UNKNOWN_REASON:
        events = f"{command} topology --enable-failure-events {trouble.source}"
        lines.append("Reason: S3 says that they failed, and not why.")
        lines.append(
            f"Fix: see the permissions of the replication role, and the destination's. From now on S3 tells: {events}"
        )
    elif reason is None:
        lines.append(f"Reason: {trouble.reason}; nothing more is known of it.")
    else:
        lines += [f"Reason: {reason.cause} ({trouble.reason}).", f"Fix: {reason.fix}."]
    lines.append(f"List: {command} list --status FAILED{_filters(trouble)}")
    if reason is None or reason.retry:
        told = "" if trouble.reason == UNKNOWN_REASON else trouble.reason
        options = _option("source", trouble.source) + _option("reason", told)
        lines += [f"Repair, after the fix: {command} retry{options}", "S3 does not try again by itself."]
    else:
        lines.append("S3 does not try again by itself, and a retry does not help, so this is told for a day only.")
    return lines


def _overdue(trouble: Trouble, command: str) -> list[str]:
    return [
        "Reason: S3 says that they are still pending, or could not be asked yet. It goes on by itself when the",
        "destination bucket or its Region can be reached again.",
        "Fix: look at AWS Health for both Regions, and whether the destination bucket and its key are there and",
        "enabled. What turns out to have failed for good is told apart, with its reason.",
        f"List: {command} list --status PENDING{_filters(trouble)}",
        f"Repair of what failed for good: {command} retry{_option('source', trouble.source)}",
    ]


def _could_not_ask(trouble: Trouble, command: str) -> list[str]:
    return [
        f"Reason: {trouble.reason}",
        "Fix: give the role that is named the permission that is named; deploying the agent in that account again does",
        "so where its role was changed. Until then the records stay as they are.",
        f"List: {command} list --status PENDING{_filters(trouble)}",
    ]


def _undelivered(trouble: Trouble, _command: str) -> list[str]:
    return [
        f"Where: in that account's {trouble.reason}.",
        "Reason: each message's attributes (ERROR_CODE, ERROR_MESSAGE) say why. Mostly the hub's bus does not let the",
        "account in, or the agent was deployed for another hub.",
        "Fix: name the account in the hub's AgentAccounts (or its organization in AgentOrganization), or deploy the",
        "agent again with this hub's outputs. Then send the messages' bodies to the hub's queue; \"After a repair\" on",
        "the documentation's page about watching has the commands. Until then S3 is asked about what is overdue.",
        "The number is of set-up's last hourly run: invoke the hub's set-up function to have it counted at once.",
    ]


def _outdated(trouble: Trouble, _command: str) -> list[str]:
    return [
        "Reason: the hub's version or roles have changed since they were deployed. Nothing is lost by that, and what a",
        "new role or permission is for does not work there yet.",
        "Fix:",
        *trouble.reason.splitlines(),
        "This is repeated once a day.",
    ]


def when_over(trouble: Trouble, now: int, first_at: int) -> list[str]:
    """Lines for a trouble that is gone, and what is not known of why."""
    if trouble.account:
        state = {
            "undelivered": f"Nothing waits undelivered in account {trouble.account} any more",
            "outdated": "All agents are as this hub needs them",
        }[trouble.kind]
        return [f"{state}. It was first told at {_time(first_at)}."]
    pair = f"from {_name(trouble.source)}"
    pair += f" to {_name(trouble.destination)}" if trouble.destination else ""
    state = {
        "failed": f"No copy {pair} is failed for this reason any more",
        "overdue": f"No copy {pair} is overdue any more",
        "could-not-ask": f"S3 answers about {trouble.source} again",
    }[trouble.kind]
    lines = [f"{state}. It was first told at {_time(first_at)}."]
    if trouble.since is not None and now - trouble.since >= KEPT_MS:
        lines.append(
            "Careful: records are kept for 14 days while they are unsettled, and some were as old as that. They may"
            " have left without having been repaired."
        )
    reason = explain(trouble.reason) if trouble.kind == "failed" else None
    if reason is not None and not reason.retry:
        lines.append(
            "Careful: no retry repairs copies that failed so, and each is told for a day only. They are still listed as"
            " FAILED."
        )
    if trouble.reason:
        lines.append(f"The reason was: {trouble.reason}")
    return lines


def _filters(trouble: Trouble) -> str:
    return _option("source", trouble.source) + _option("destination", trouble.destination)


def _option(name: str, value: str) -> str:
    """An option of a command that people copy: messages may hold anything, so what is not plain is quoted."""
    if not value:
        return ""
    if _PLAIN.fullmatch(value):
        return f" --{name} {value}"
    return f" --{name} '" + value.replace("'", "'\\''") + "'"


def _pair(trouble: Trouble) -> str:
    return f"{_name(trouble.source)} -> {trouble.destination}" if trouble.destination else _name(trouble.source)


def _name(bucket: str) -> str:
    return bucket or "an unknown bucket"


def number(count: int) -> str:
    """A number as people write it."""
    return f"{count:,}"


def _count(count: int, one: str, many: str) -> str:
    return f"{number(count)} {one if count == 1 else many}"


def _size(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < _KILO:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= _KILO
    return f"{value:.1f} PiB"


def _time(at: int) -> str:
    return f"{format_time(at)[:16].replace('T', ' ')} UTC"
