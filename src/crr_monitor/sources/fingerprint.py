"""What a file begins with, in a form that stays comparable when the file has grown."""

from __future__ import annotations

import hashlib

from crr_monitor.sources.stream import explain

HEAD_BYTES = 1 << 16
"""How many raw bytes a fingerprint covers at most (64 KiB)."""


def take_fingerprint(path: str, covered: int = HEAD_BYTES) -> str:
    """Hash the first ``covered`` raw bytes, or as many as there are: ``COUNT-HASH``.

    Raises:
        SourceError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - names may be no Paths
            head = file.read(covered)
    except OSError as error:
        raise explain(path, error) from error
    return f"{len(head)}-{hashlib.blake2b(head, digest_size=16).hexdigest()}"


def still_begins_with(path: str, fingerprint: str) -> bool:
    """Tell whether the file begins with what was hashed then, however much came after it since.

    Raises:
        SourceError: the file cannot be read.
    """
    covered = fingerprint.partition("-")[0]
    return covered.isdecimal() and take_fingerprint(path, int(covered)) == fingerprint
