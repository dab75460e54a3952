"""Messages that others captured, where a collection of them lies beside the repository, queried from SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from crr_monitor.core.model import Status
from crr_monitor.sources.rejects import read_rejects
from crr_monitor.stores.base import Query
from crr_monitor.stores.sqlite import SqliteStore
from tests.integration.helpers import ingest

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="no collection of messages beside the repository")


def test_captured_messages_are_queried_from_sqlite(tmp_path: Path) -> None:
    """Five real and documented failures are found with S3's reason, and every message was taken, ignored or kept."""
    store = SqliteStore(tmp_path / "s.db")
    totals = ingest(store, CORPUS, rejects=tmp_path / "rejects.ndjson")
    files = [path for path in CORPUS.rglob("*.json") if path.is_file()]
    assert totals.counts.messages == len(files)
    failed = {(record.key, record.copies[0].failure_reason) for record in store.records(Query(status=Status.FAILED))}
    assert failed == {
        ("assume/probe", "AssumeRoleNotPermitted"),
        ("unversioned/probe", "DstBucketUnversioned"),
        ("dstobj/probe", "DstPutObjectNotPermitted"),
        ("srcacl/probe", "SrcGetAclNotPermitted"),
        ("replication-test.png", "AssumeRoleNotPermitted"),
    }
    rejected = list(read_rejects(tmp_path / "rejects.ndjson"))
    assert len(rejected) == totals.counts.malformed
    contents = {reject.source: Path(reject.source).read_bytes() for reject in rejected}
    # A record inside a wrapper is kept as it came out of it; the others stand in their files to the byte.
    bare = [reject for reject in rejected if b"\\" not in contents[reject.source]]
    assert bare
    assert all(reject.message in contents[reject.source] for reject in bare)
