"""One line of JSON per thing worth knowing, on standard output, where Lambda takes it from as it is.

Lines hold counts, reasons, keys and version ids; never credentials, and nothing else of what messages hold.
"""

from __future__ import annotations

import json
import sys
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["INFO", "WARNING", "ERROR"]


def write(level: Level, message: str, **fields: object) -> None:
    """Write one line, in one piece: threads do not tear each other's lines."""
    sys.stdout.write(json.dumps({"level": level, "message": message, **fields}, default=str) + "\n")
    sys.stdout.flush()
