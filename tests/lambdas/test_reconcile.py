"""The reconcile function's edges: its settings, its time, and what it says. The rest is tested end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("boto3")

from crr_monitor.core.model import Status
from crr_monitor.core.reconcile import Found, Place, Unasked
from crr_monitor.lambdas import reconcile
from crr_monitor.lambdas.settings import ReconcileSettings, SettingsError, from_environment, variables
from crr_monitor.process.reconcile import Limits, Reconciler
from crr_monitor.sandbox import Sandbox
from crr_monitor.stores.base import Query
from crr_monitor.stores.dynamodb import open_store
from crr_monitor.stores.dynamodb_tables import create_tables
from crr_monitor.stores.memory import MemoryStore
from tests.aws.making import HOME, HUB, make_bucket
from tests.factories import AT, batch_of, user_write
from tests.lambdas.making import FakeContext, log_lines
from tests.stores.dynamodb_server import without_credentials

if TYPE_CHECKING:
    from crr_monitor.core.reconcile import Reply

ARN = f"arn:aws:lambda:{HOME}:{HUB}:function:reconcile"
LATER = AT + 3_600_000


class Context(FakeContext):
    """Lambda's, with the function's name."""

    invoked_function_arn = ARN


class Bucket:
    """Answers always the same."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def ask(self, _place: Place, _key: str, _version_id: str) -> Reply:
        """As told."""
        return self.reply


def reconciler(reply: Reply) -> Reconciler:
    """One with one overdue version."""
    store = MemoryStore()
    store.apply(batch_of(user_write()))
    return Reconciler(store, Bucket(reply), Limits(workers=1), clock=lambda: LATER)


def test_figures_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """A run writes one line with its figures, which are its answer, too."""
    told = reconcile.run(reconciler(Found("COMPLETED")), Context())
    (line,) = log_lines(capsys.readouterr().out)
    assert line == {"level": "INFO", "message": "reconciled", **told}
    assert (told["due"], told["answers"], told["records_changed"]) == (1, {"completed": 1}, 1)


def test_what_could_not_be_asked_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """Refusals make the line a warning, with their reasons, and no error of the function."""
    reconcile.run(reconciler(Unasked("denied", "no", "s3:GetObjectVersion")), Context())
    (line,) = log_lines(capsys.readouterr().out)
    assert line["level"] == "WARNING"
    assert {each["permission"] for each in line["could_not_ask"]} == {"s3:GetObjectVersion"}


def test_no_question_begins_in_the_last_minute() -> None:
    """With little time left nothing is asked, and the record stays due."""
    waiting = reconciler(Found("COMPLETED"))
    assert reconcile.run(waiting, Context(reconcile.SPARE_SECONDS))["left"] == 1
    assert reconcile.run(waiting, Context(reconcile.SPARE_SECONDS + 5.0))["asked"] == 1


def test_settings() -> None:
    """Numbers come as texts; a missing or impossible one is named."""
    assert variables(ReconcileSettings) == (
        "CRR_MONITOR_STORE",
        "CRR_MONITOR_AGENT_ROLE_NAME",
        "CRR_MONITOR_ASK_AFTER_SECONDS",
    )
    given = {"CRR_MONITOR_STORE": "s", "CRR_MONITOR_AGENT_ROLE_NAME": "r", "CRR_MONITOR_ASK_AFTER_SECONDS": "60"}
    assert from_environment(ReconcileSettings, given).ask_after_seconds == 60
    for wrong in ("0", "soon"):
        with pytest.raises(SettingsError, match="ask_after_seconds"):
            from_environment(ReconcileSettings, {**given, "CRR_MONITOR_ASK_AFTER_SECONDS": wrong})


def test_on_tables_and_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made from the settings asks the buckets of the tables' records."""
    pytest.importorskip("ministack")
    without_credentials(monkeypatch)
    with Sandbox() as sandbox:
        make_bucket(sandbox, "orders")
        create_tables(sandbox.client("dynamodb", HUB, HOME), "crr")
        url = f"dynamodb://crr-status?endpoint={sandbox.endpoint}"
        version_id = sandbox.client("s3", HUB, HOME).put_object(Bucket="orders", Key="k", Body=b"")["VersionId"]
        store = open_store(url)
        store.apply(batch_of(user_write(key="k", version_id=version_id, at=1_700_000_000_000)))
        settings = ReconcileSettings(store=url, agent_role_name="agent", ask_after_seconds=60)
        told = reconcile.run(reconcile.make_reconciler(settings, ARN), Context())
        assert told["answers"] == {"not-eligible": 1}
        assert told["could_not_ask"][0]["cause"] == "bucket-missing"
        assert list(store.records(Query(status=Status.PENDING))) == []
