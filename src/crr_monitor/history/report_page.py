"""The report for people: one self-contained HTML page, or Markdown. Both show the figures of ``-o json``."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from crr_monitor.core.failures import explain
from crr_monitor.history import charts
from crr_monitor.history.charts import backlog_chart, lag_chart, milliseconds, strip
from crr_monitor.history.driver import HistoryError
from crr_monitor.history.views import Span

PLOT_WIDTH = charts.WIDTH - charts.LEFT - charts.RIGHT
_UNKNOWN = "\N{EN DASH}"
_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")
_THOUSAND = 1_000
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def html(report: dict[str, Any]) -> str:
    """The page.

    Raises:
        HistoryError: Jinja is not installed.
    """
    return _render("report.html.j2", report, autoescape=True)


def markdown(report: dict[str, Any]) -> str:
    """The same figures as Markdown tables.

    Raises:
        HistoryError: Jinja is not installed.
    """
    return _render("report.md.j2", report, autoescape=False)


def _render(template: str, report: dict[str, Any], *, autoescape: bool) -> str:
    if importlib.util.find_spec("jinja2") is None:
        message = "the report needs Jinja: pip install 'crr-monitor[history]' (or use -o json)"
        raise HistoryError(message)
    jinja = importlib.import_module("jinja2")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("crr_monitor.history", "pages"),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "bytes": size,
        "seconds": duration,
        "when": when,
        "bucket": bucket,
        "cell": _cell,
    }
    span, as_of = _time(report)
    text: str = environment.get_template(template).render(
        r=report,
        details=_details(report),
        sights=[{**place, "bands": strip(place["periods"], span)} for place in _alike(report["coverage"])],
        blind_periods=_blind_periods(report["coverage"]),
        known_width=round((as_of - span.since) / (span.until - span.since) * PLOT_WIDTH, 1),
        chart=charts,
    )
    return text


def _time(report: dict[str, Any]) -> tuple[Span, int]:
    """The time of the report, and up to when of it something can be known."""
    span = Span(milliseconds(report["since"]), milliseconds(report["until"]))
    return span, min(max(milliseconds(report["as_of"]), span.since), span.until)


def _alike(places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Places of which the same holds as one, with their names: one monitor mostly watches all of them."""
    groups: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for place in places:
        what = {name: value for name, value in place.items() if name not in {"account", "region"}}
        same = next((group for known, group in groups if known == what), None)
        if same is None:
            groups.append((what, [place]))
        else:
            same.append(place)
    return [{**what, "where": _where(group, places)} for what, group in groups]


def _where(some: list[dict[str, Any]], places: list[dict[str, Any]]) -> str:
    if len(some) == len(places):
        return "all"
    names = (f"{each.get('account', 'account unknown')} {each.get('region', 'Region unknown')}" for each in some)
    return ", ".join(names)


def _blind_periods(places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blind periods of all places, each once, with all the places that it is about."""
    found: dict[tuple[str, str], tuple[set[str], list[dict[str, Any]]]] = {}
    for place in places:
        for period in place["periods"]:
            if period["kind"] == "blind":
                reasons, where = found.setdefault((period["since"], period["until"]), (set(), []))
                reasons.update(period["reasons"])
                where.append({**place, "hours": period["hours"]})
    return [
        {
            "since": since,
            "until": until,
            "hours": where[0]["hours"],
            "reasons": sorted(reasons),
            "where": _where(where, places),
        }
        for (since, until), (reasons, where) in sorted(found.items())
    ]


def percent(share: float | None) -> str:
    """An attained share with three decimals, cut and not rounded: 99.9 % is shown only where it was reached."""
    return _UNKNOWN if share is None else f"{int(share * 100_000) / 1_000:.3f} %"


def size(count: int) -> str:
    """Bytes in decimal units."""
    value, unit = float(count), 0
    while value >= _THOUSAND and unit < len(_UNITS) - 1:
        value, unit = value / _THOUSAND, unit + 1
    return f"{value:,.0f} {_UNITS[unit]}" if unit == 0 else f"{value:,.1f} {_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """A length of time, in the unit that suits it."""
    if seconds is None:
        return _UNKNOWN
    if seconds < _MINUTE:
        return f"{seconds:,.1f} s"
    for unit, length in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds / _MINUTE:,.1f} min"


def when(moment: str | None) -> str:
    """A time to the minute, in UTC."""
    return _UNKNOWN if moment is None else moment[:16].replace("T", " ")


def bucket(place: dict[str, Any]) -> str:
    """A bucket's name, where it is known."""
    return str(place.get("bucket", "(unknown bucket)"))


def _cell(value: object) -> str:
    """A text for a cell of a Markdown table."""
    text = str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")
    return text.replace("<", "&lt;").replace("`", "\\`").replace("[", "\\[")


def _details(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Per pair what the charts draw, in the order of ``pairs``."""
    span, as_of = _time(report)
    details = []
    for pair in report["pairs"]:
        name = (pair["source"].get("bucket"), pair["destination"].get("bucket"))
        days = [row for row in report["lag_by_day"] if _name(row) == name]
        series = [(shown, [(row["day"], row[key]) for row in days]) for shown, key in (("p50", "p50"), ("p99", "p99"))]
        steps = [(row["moment"], row["copies"]) for row in report["backlog"] if _name(row) == name]
        evidence = next(row for row in report["evidence"] if _name(row) == name)
        details.append(
            {
                "lags": lag_chart(series, span, report["rpo_seconds"]) if days else None,
                "backlog": backlog_chart(steps, span, as_of) if steps else None,
                "evidence": evidence,
                "strip": strip(evidence["periods"], span),
                "fixes": {row["reason"]: _fix(row["reason"]) for row in pair["failures"]},
            }
        )
    return details


def _name(row: dict[str, Any]) -> tuple[str | None, str | None]:
    return row.get("source_bucket"), row.get("destination_bucket")


def _fix(reason: str) -> str:
    known = explain(reason)
    return "" if known is None else known.fix
