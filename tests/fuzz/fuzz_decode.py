"""Fuzzing of the decoder with atheris: whatever the bytes, nothing is raised and nothing vanishes.

Not run by pytest, and atheris is no dependency of the project. To run it for two minutes:

    pip install atheris
    python -m tests.fuzz.fuzz_decode -max_total_time=120 -max_len=4096 CORPUS_FOLDER

Messages of every kind are written into the corpus folder first, so that mutations start from something real.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path

atheris = import_module("atheris")

with atheris.instrument_imports(include=["crr_monitor"]):
    from crr_monitor.core.events import BadEventError
    from crr_monitor.decode import Decoded, decode

    # In here too, because they import the decoder: whatever is imported before is not instrumented.
    from tests.decode.test_envelopes import MESSAGES, WRAPPERS
    from tests.messages import encoded


def check(data: bytes) -> None:
    """Decode once, and hold the decoder to its word."""
    out = decode(data)
    _check_counts(data, out)
    again = decode(data)
    if (again.events, again.ignored, again.malformed) != (out.events, out.ignored, out.malformed):
        message = "decoded twice, the same bytes gave different results"
        raise AssertionError(message)


def _check_counts(data: bytes, out: Decoded) -> None:
    found = len(out.events) + sum(out.ignored.values()) + len(out.malformed)
    if not found and b"[" not in data:
        message = "a message vanished"
        raise AssertionError(message)
    if any(not bad.reason or (data and not bad.message) for bad in out.malformed):
        message = "something was rejected without a reason or without its bytes"
        raise AssertionError(message)
    for event in out.events:
        try:
            type(event)(*(getattr(event, field) for field in event.__struct_fields__))
        except BadEventError as error:
            message = f"an event breaks its own rules: {event}"
            raise AssertionError(message) from error


def write_seeds(folder: Path) -> None:
    """Write one file for every kind of message, bare and in every wrapper."""
    folder.mkdir(parents=True, exist_ok=True)
    for message in MESSAGES:
        for seed in (message, *(wrap(message) for wrap in WRAPPERS)):
            content = encoded(seed)
            (folder / sha256(content).hexdigest()[:16]).write_bytes(content)


def main() -> None:
    """Run until a failure or until libFuzzer's limits are reached."""
    for argument in sys.argv[1:]:
        if not argument.startswith("-"):
            write_seeds(Path(argument))
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
