"""Dashboards for those who have Prometheus and Grafana; that of CloudWatch is in the hub's template."""

from __future__ import annotations

from importlib.resources import files

GRAFANA = "grafana.json"
"""For import into Grafana, with Prometheus (or what speaks its language) as the data source."""


def text(name: str) -> str:
    """A dashboard's JSON."""
    return (files(__name__) / name).read_text(encoding="utf-8")
