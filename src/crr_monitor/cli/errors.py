"""The errors that are told in one line, because their text says what broke and what to do."""

from __future__ import annotations

from crr_monitor.aws.queue import QueueError
from crr_monitor.aws.sessions import AwsError
from crr_monitor.aws.stacks import StackError
from crr_monitor.cli.session import CommandError
from crr_monitor.config import ConfigError
from crr_monitor.core.topology_document import TopologyError
from crr_monitor.demo import DemoError
from crr_monitor.history.driver import HistoryError
from crr_monitor.lambdas.package import PackageError
from crr_monitor.lambdas.settings import SettingsError
from crr_monitor.serve.errors import ServeError
from crr_monitor.simulate.plan import SimulateError
from crr_monitor.sources.base import SourceError
from crr_monitor.sources.rejects import RejectError
from crr_monitor.stores.base import StoreError

EXPECTED = (
    AwsError,
    CommandError,
    ConfigError,
    DemoError,
    HistoryError,
    PackageError,
    QueueError,
    RejectError,
    ServeError,
    SettingsError,
    SimulateError,
    SourceError,
    StackError,
    StoreError,
    TopologyError,
)
