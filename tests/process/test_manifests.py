"""Manifests as files: one for each group, the same content for the same records, in bounded memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from crr_monitor.core.repair import RepairPlan
from crr_monitor.process import manifests
from crr_monitor.process.manifests import ManifestFiles
from tests.factories import INFERRED, SOURCE, denied_write, failed, record_of, user_write

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from crr_monitor.core.model import Record
    from crr_monitor.process.manifests import Manifest


def write(folder: Path, *records: Record) -> dict[str, Manifest]:
    """The manifests of some records."""
    plan, files = RepairPlan(), ManifestFiles(folder)
    for record in records:
        group = plan.add(record)
        assert group is not None
        files.add(group, record)
    return files.close()


def broken(key: str, reason: str = "DstKmsKeyNotFound") -> Record:
    """A version that failed."""
    return record_of(user_write(key=key, version_id=f"v-{key}"), failed(key=key, version_id=f"v-{key}", reason=reason))


def test_one_file_for_each_group(tmp_path: Path) -> None:
    """Each group's versions are in its own file, in the order in which they came, and nothing else lies there."""
    found = write(tmp_path / "new", broken("a"), broken("b", "DstBucketNotFound"), broken("c d"))
    texts = sorted(each.path.read_text() for each in found.values())
    assert texts == [f"{SOURCE},a,v-a\n{SOURCE},c%20d,v-c d\n", f"{SOURCE},b,v-b\n"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(f"{name}.csv" for name in found)


def test_digests_are_of_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size and digests are those of the file, also where it was written in many pieces."""
    monkeypatch.setattr(manifests, "BUFFERED_BYTES", 40)
    (manifest,) = write(tmp_path, *(broken(f"key-{number}") for number in range(30))).values()
    data = manifest.path.read_bytes()
    assert data.count(b"\n") == 30
    assert manifest.size == len(data)
    assert manifest.sha256 == hashlib.sha256(data).hexdigest()
    assert manifest.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are in the unfinished file as soon as there are enough; the finished one replaces an old one."""
    monkeypatch.setattr(manifests, "BUFFERED_BYTES", 1)
    plan, files, record = RepairPlan(), ManifestFiles(tmp_path), broken("a")
    group = plan.add(record)
    assert group is not None
    old = tmp_path / f"{group.name}.csv"
    old.write_text("old")
    files.add(group, record)
    assert (tmp_path / f"{group.name}.csv.part").read_text() == f"{SOURCE},a,v-a\n"
    assert old.read_text() == "old"
    files.close()
    assert old.read_text() == f"{SOURCE},a,v-a\n"


def test_unknown_source_has_no_manifest(tmp_path: Path) -> None:
    """Without a bucket there is no line to write."""
    assert write(tmp_path, record_of(denied_write(), topology=INFERRED)) == {}
