"""``python -m crr_monitor`` is the same as ``crr-monitor``."""

from __future__ import annotations

import sys

from crr_monitor.cli.main import main

sys.exit(main())
