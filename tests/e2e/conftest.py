"""The whole system: a local AWS with both stacks in it, for each source of events."""

from __future__ import annotations

import pytest

pytest.importorskip("boto3")
pytest.importorskip("ministack")
