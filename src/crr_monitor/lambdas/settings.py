"""What each function reads from its environment.

One frozen value, parsed once. The templates set exactly these variables.

A field's variable is ``CRR_MONITOR_`` and its name in capitals; lists are separated by commas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from crr_monitor.aws.words import DeniedReads, EventSource, StackKind
from crr_monitor.sinks.words import Detail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crr_monitor.aws.plan_model import Stack

PREFIX = "CRR_MONITOR_"

Settings = TypeVar("Settings", bound=Struct)


class SettingsError(Exception):
    """A variable is missing or wrong; the text names it and the cure."""


class SetupSettings(Struct, frozen=True, kw_only=True):
    """Of ``crr_monitor.lambdas.setup``.

    What a stack does not have is empty: an agent's queue of events, a trail that is not ours. ``changes_queue_url`` is
    the function's own queue. ``hub_role_arns`` are the hub's roles that ask agents: of an agent those that it lets in.
    """

    stack_kind: StackKind
    stack_id: str
    token: str
    event_source: EventSource
    hub_account: str
    hub_token: str
    hub_bus_arn: str
    own_bus_arn: str
    forward_role_arn: str
    queue_arn: str
    queue_url: str
    changes_queue_url: str
    trail_bucket: str
    denied_reads: DeniedReads
    topic_keys: tuple[str, ...]
    agent_accounts: tuple[str, ...]
    agent_organization: str
    agent_role_name: str
    hub_role_arns: tuple[str, ...]
    metrics_namespace: str
    alarm_topic_arn: str
    bucket_settings: Literal["Print", "Change"]
    store: str

    def stack(self, function_arn: str) -> Stack:
        """The stack as planning wants it; partition, Region and account are those of the function itself."""
        from crr_monitor.aws.plan_model import Stack  # noqa: PLC0415 - only set-up plans, and every function is here

        _, partition, _, region, account, *_ = function_arn.split(":")
        return Stack(
            kind=self.stack_kind,
            stack_id=self.stack_id,
            token=self.token,
            account=account,
            region=region,
            partition=partition,
            event_source=self.event_source,
            hub_account=self.hub_account,
            hub_token=self.hub_token,
            hub_bus_arn=self.hub_bus_arn,
            own_bus_arn=self.own_bus_arn,
            forward_role_arn=self.forward_role_arn,
            queue_arn=self.queue_arn,
            queue_url=self.queue_url,
            trail_bucket=self.trail_bucket,
            denied_reads=self.denied_reads,
            topic_keys=self.topic_keys,
            agent_accounts=self.agent_accounts,
            agent_organization=self.agent_organization,
        )


class ProcessSettings(Struct, frozen=True, kw_only=True):
    """Of ``crr_monitor.lambdas.process``. ``event_log`` is the log group for copies of raw events, or empty."""

    store: str
    queue_url: str
    dead_letter_queue_url: str
    event_log: str


class SettleSettings(Struct, frozen=True, kw_only=True):
    """Of ``crr_monitor.lambdas.settle``. ``archive_stream`` is Firehose's delivery stream, or empty.

    Metrics are published in ``metrics_namespace``.
    """

    store: str
    metrics_detail: Detail
    metrics_namespace: str
    archive_stream: str


class WatchSettings(Struct, frozen=True, kw_only=True):
    """Of ``crr_monitor.lambdas.watch``.

    ``topic_arn`` is where notices go. Pending for ``overdue_seconds`` is overdue; ``rpo_seconds`` is the target of the
    RPO share. ``pause_seconds``: for so long a trouble has to be gone before that is told. ``interval`` is between two
    looks, as in ``rate(5 minutes)``; a canary is late after ``canary_late_seconds``. ``archive_place`` is where the
    archive lies, ``s3://bucket/prefix/``, or empty; ``archive_key_arn`` the key with which it is encrypted, or empty
    for the bucket's own.
    """

    store: str
    token: str
    metrics_detail: Detail
    metrics_namespace: str
    topic_arn: str
    overdue_seconds: int
    rpo_seconds: int
    pause_seconds: int
    queue_url: str
    interval: Annotated[str, Meta(pattern=r"^rate\(\d+ (minute|hour)s?\)$")]
    canary_late_seconds: int
    archive_place: str
    archive_key_arn: str


class ReconcileSettings(Struct, frozen=True, kw_only=True):
    """Of ``crr_monitor.lambdas.reconcile``.

    Through ``agent_role_name`` other accounts are asked. S3 is asked about a version ``ask_after_seconds`` after its
    write.
    """

    store: str
    agent_role_name: str
    ask_after_seconds: Annotated[int, Meta(ge=1)]


class CanarySettings(Struct, frozen=True, kw_only=True):
    """Of ``crr_monitor.lambdas.canary``.

    ``pairs`` are the pairs that have canaries, each as ``SOURCE`` or ``SOURCE:DESTINATION``; ``token`` ends their keys.
    Through ``agent_role_name`` buckets of other accounts are reached.
    """

    store: str
    token: str
    agent_role_name: str
    pairs: tuple[str, ...]


BY_HANDLER: dict[str, type[Struct]] = {
    "crr_monitor.lambdas.setup.handler": SetupSettings,
    "crr_monitor.lambdas.process.handler": ProcessSettings,
    "crr_monitor.lambdas.settle.handler": SettleSettings,
    "crr_monitor.lambdas.reconcile.handler": ReconcileSettings,
    "crr_monitor.lambdas.watch.handler": WatchSettings,
    "crr_monitor.lambdas.canary.handler": CanarySettings,
}
"""Every function of the templates."""


def variables(kind: type[Struct]) -> tuple[str, ...]:
    """The environment variables that a function reads."""
    return tuple(PREFIX + name.upper() for name in kind.__struct_fields__)


def from_environment(kind: type[Settings], environment: Mapping[str, str]) -> Settings:
    """Parse a function's settings.

    Raises:
        SettingsError: naming the variable.
    """
    hints = msgspec.structs.fields(kind)
    values: dict[str, object] = {}
    for hint, variable in zip(hints, variables(kind), strict=True):
        told = environment.get(variable)
        if told is None:
            message = (
                f"environment variable {variable} is missing: the stack's template sets it, so deploy the stack again"
            )
            raise SettingsError(message)
        values[hint.name] = [each for each in told.split(",") if each] if "tuple" in str(hint.type) else told
    try:
        return msgspec.convert(values, kind, strict=False)  # numbers are texts in an environment
    except msgspec.ValidationError as error:
        message = f"an environment variable of this function is wrong: {error} ({', '.join(variables(kind))})"
        raise SettingsError(message) from error
