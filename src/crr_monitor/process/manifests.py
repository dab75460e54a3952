"""Manifests of S3 Batch Replication as files: one for each group of failed versions, written as the records come."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from crr_monitor.core.repair import manifest_line

if TYPE_CHECKING:
    from crr_monitor.core.model import Record
    from crr_monitor.core.repair import Group

BUFFERED_BYTES = 4 << 20
"""Of all files together, before they are appended to."""

UNFINISHED = ".part"


class Manifest(Struct, frozen=True):
    """A written manifest. ``sha256`` is of its content, in hexadecimal digits."""

    path: Path
    size: int
    sha256: str
    md5: str


class ManifestFiles:
    """Writes lines into one file for each group; memory stays the same, however many there are."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is made if it is not there. Files of the same names are replaced, once all is written."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._buffered = 0

    def add(self, group: Group, record: Record) -> None:
        """Put a version into the manifest of its group; of one without a known source no line can be made."""
        if group.source.bucket is None:
            return
        line = manifest_line(group.source.bucket, record.key, record.version_id)
        name = group.name
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = _File(self._folder / f"{name}.csv")
        file.add(line)
        self._buffered += len(line)
        if self._buffered >= BUFFERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()
        self._buffered = 0

    def close(self) -> dict[str, Manifest]:
        """Finish all files; gives them by the names of their groups."""
        self._flush()
        return {name: file.finish() for name, file in self._files.items()}


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(path.name + UNFINISHED)
        self._unfinished.write_bytes(b"")
        self._lines: list[bytes] = []
        self._size = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def add(self, line: bytes) -> None:
        self._lines.append(line)

    def flush(self) -> None:
        data = b"".join(self._lines)
        self._lines.clear()
        if data:
            with self._unfinished.open("ab") as file:
                file.write(data)
            self._size += len(data)
            self._sha256.update(data)
            self._md5.update(data)

    def finish(self) -> Manifest:
        self._unfinished.replace(self._path)
        return Manifest(self._path, self._size, self._sha256.hexdigest(), self._md5.hexdigest())
