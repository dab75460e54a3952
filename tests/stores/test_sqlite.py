"""What only a database file can get wrong: other people's files, full disks, old schemas, processes that die."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from crr_monitor.core.model import Status
from crr_monitor.core.times import DAY_MS
from crr_monitor.stores import sqlite_due, sqlite_schema
from crr_monitor.stores.base import Counts, Position, Query, StoreError
from crr_monitor.stores.packed import pack, unpack
from crr_monitor.stores.sqlite import OPEN, SqliteStore, version_hash
from tests.factories import AT, KEY, REPLICA, SOURCE, VERSION, batch_of, evidence_of, replica, user_write
from tests.sources.test_files import powerless
from tests.stores.contract import OVERDUE, THREE_SOURCES, everything, statuses, total, versions_at

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is to be."""
    return tmp_path / "store.db"


def contents(folder: Path) -> dict[str, bytes]:
    """All data in a folder, byte for byte: neither empty files nor the shared memory of a write-ahead log are any."""
    found = {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}
    return {name: data for name, data in found.items() if data}


def refusal(path: Path, **options: Any) -> str:  # noqa: ANN401 - any option of the store
    """The text with which a file is refused."""
    with pytest.raises(StoreError) as caught:
        SqliteStore(path, **options)
    return str(caught.value)


class TestReadingAlone:
    """Who may not write the file or its folder can read it all the same, and leaves nothing behind."""

    @pytest.fixture
    def shared(self) -> Iterator[Path]:
        """A store in a folder that everybody may look into and only its owner may change."""
        # Not pytest's own folder, which is closed to others.
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            path = Path(folder) / "store.db"
            with closing(SqliteStore(path)) as store:
                store.apply(batch_of(user_write(), positions=[Position("one", 3)]))
            path.chmod(0o444)
            path.parent.chmod(0o555)
            yield path
            path.parent.chmod(0o755)

    def test_without_a_writer(self, shared: Path) -> None:
        """A store that nobody has open is read, and no file is made beside it."""
        with powerless(), closing(SqliteStore(shared, create=False, reading=True)) as store:
            assert store.position("one") == Position("one", 3)
            assert [record.key for record in store.records(Query())] == [KEY]
        assert [file.name for file in shared.parent.iterdir()] == ["store.db"]

    def test_beside_a_writer(self, shared: Path) -> None:
        """A reader sees what a writer committed, also after the reader was opened, and the writer goes on."""
        with closing(SqliteStore(shared)) as writer:
            writer.apply(batch_of(positions=[Position("two", 1)]))
            with powerless():
                reader = SqliteStore(shared, create=False, reading=True)
                assert reader.position("two") == Position("two", 1)
            writer.apply(batch_of(positions=[Position("two", 2)]))
            with powerless():
                assert reader.position("two") == Position("two", 2)
                reader.close()
            writer.apply(batch_of(positions=[Position("two", 3)]))
            assert writer.position("two") == Position("two", 3)

    def test_after_a_writer_that_a_reader_outlived(self, shared: Path) -> None:
        """Where a reader kept the writer from clearing up its log, the next reader sees all that is in it."""
        with closing(SqliteStore(shared)) as writer:
            writer.apply(batch_of(positions=[Position("two", 1)]))
            with powerless():
                reader = SqliteStore(shared, create=False, reading=True)
        with powerless():
            reader.position("two")
            reader.close()
            with closing(SqliteStore(shared, create=False, reading=True)) as store:
                assert store.position("two") == Position("two", 1)

    def test_cannot_be_changed(self, shared: Path) -> None:
        """A change is refused, and the refusal says which right it takes."""
        batch = batch_of(positions=[Position("two", 1)])
        with (
            powerless(),
            closing(SqliteStore(shared, create=False, reading=True)) as store,
            pytest.raises(StoreError) as caught,
        ):
            store.apply(batch)
        assert str(caught.value).endswith(
            "(to change it takes the right to write it and its folder: run as a user who has it)"
        )

    def test_changed_meanwhile(self, shared: Path) -> None:
        """A writer that begins while a file is read that nobody had open is told at the end of the reading."""
        with powerless():
            store = SqliteStore(shared, create=False, reading=True)
        with closing(SqliteStore(shared)) as writer:
            writer.apply(batch_of(positions=[Position("two", 1)]))
        with pytest.raises(StoreError) as caught:
            store.close()
        assert (
            str(caught.value) == f"store {shared} was changed while it was read, so the answer may be wrong: ask again"
        )

    def test_log_without_an_index(self, shared: Path) -> None:
        """A log that was copied without its index is told with who can bring it in; it is not passed over."""
        log = Path(f"{shared}-wal")
        log.write_bytes(b"x" * 32)
        with powerless():
            told = refusal(shared, create=False, reading=True)
        assert told == (
            f"store {shared}: what was written last is still in {log}, and to bring it in takes the right to write:"
            " run this once as the user who writes the store"
        )

    def test_may_not_be_read(self, shared: Path) -> None:
        """A file that may not even be read is told with its name and the cure."""
        shared.chmod(0o400)
        with powerless():
            told = refusal(shared, create=False, reading=True)
        assert (
            told
            == f"store {shared}: {shared} may not be read by you: run as a user, or as a member of a group, who may"
        )

    def test_older_schema(self, shared: Path) -> None:
        """A file of an older version is not guessed at where it cannot be brought up to date."""
        with closing(sqlite3.connect(shared)) as db:
            db.execute("PRAGMA user_version = 1")
        with powerless():
            told = refusal(shared, create=False, reading=True)
        assert told == (
            f"{shared} was made by an older version of CRR Monitor (schema 1), and may not be written by you: restart"
            " what writes it with this version, or run this once as its user"
        )


class TestOpening:
    """Which files are taken, and what a refusal says."""

    def test_reopened(self, path: Path) -> None:
        """What was stored is there when the file is opened again."""
        with closing(SqliteStore(path)) as store:
            store.apply(batch_of(user_write(), positions=[Position("one", 3)]))
            before = everything(store)
        with closing(SqliteStore(path)) as store:
            assert everything(store) == before

    def test_empty_file_is_no_store(self, path: Path) -> None:
        """A command that only asks does not make a store of an empty file."""
        path.touch()
        assert refusal(path, create=False) == (
            f"no store at {path}: ingest something first, or name another one with --store"
        )
        assert path.read_bytes() == b""

    def test_folder_is_made(self, path: Path) -> None:
        """The folder of a new store is made."""
        SqliteStore(path.parent / "a" / "b" / "store.db").close()
        assert (path.parent / "a" / "b" / "store.db").is_file()

    def test_text_path(self, path: Path) -> None:
        """A path may hold characters that mean something in a URI."""
        odd = path.parent / "a b?mode=ro#é%20.db"
        SqliteStore(str(odd)).close()
        SqliteStore(str(odd)).close()
        assert [file.name for file in path.parent.iterdir()] == [odd.name]

    def test_missing(self, path: Path) -> None:
        """A missing file is not made when it is only to be read."""
        assert refusal(path, create=False) == (
            f"no store at {path}: ingest something first, or name another one with --store"
        )
        assert not path.exists()

    @pytest.mark.parametrize("journal", ["delete", "wal"])
    def test_another_programs_database(self, path: Path, journal: str) -> None:
        """Another program's database is refused and left as it is, byte for byte, with its write-ahead log."""
        script = (
            "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "db.execute(sys.argv[2]); db.execute('CREATE TABLE t(x)');"
            "db.execute('INSERT INTO t VALUES (1)'); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", script, str(path), f"PRAGMA journal_mode = {journal}"], check=True)
        before = contents(path.parent)
        assert len(before) == (2 if journal == "wal" else 1)
        assert refusal(path) == f"{path} is a database of another program: name another file with --store"
        assert contents(path.parent) == before

    def test_another_programs_empty_database(self, path: Path) -> None:
        """A database without tables that another program has marked as its own is refused too."""
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA application_id = 7")
        assert "another program" in refusal(path)

    def test_empty_file(self, path: Path) -> None:
        """An empty file becomes a store."""
        path.touch()
        with closing(SqliteStore(path)) as store:
            assert store.counts() == Counts()

    def test_no_database(self, path: Path) -> None:
        """A file that is no database is refused as such and left as it is."""
        path.write_bytes(b"key,version\n" * 100)
        assert "the file is no SQLite database" in refusal(path)
        assert path.read_bytes() == b"key,version\n" * 100

    def test_newer_schema(self, path: Path) -> None:
        """A store of a newer version is refused untouched, and the way out is told."""
        SqliteStore(path).close()
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 99")
        before = contents(path.parent)
        assert refusal(path) == (
            f"{path} was made by a newer version of CRR Monitor (schema 99): upgrade, or name another file"
        )
        assert contents(path.parent) == before

    def test_folder_is_a_file(self, path: Path) -> None:
        """A folder that cannot be made is named with the reason."""
        path.write_text("no folder")
        assert refusal(path / "store.db").startswith(f"cannot make the folder of the store {path / 'store.db'}: ")

    def test_path_is_a_folder(self, path: Path) -> None:
        """A folder is no store."""
        assert refusal(path.parent) == f"{path.parent} is a folder: name a file in it with --store"

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that no user may write to")
    def test_folder_not_writable(self) -> None:
        """A folder in which no file can be made is told with what to check."""
        assert "check that the folder exists and may be written" in refusal(Path("/proc/store.db"))

    def test_made_by_many_at_once(self, path: Path) -> None:
        """Processes that begin at the same time make one store between them, and none takes it for somebody else's."""
        wrong: list[StoreError] = []
        for number in range(15):
            file = path.with_name(f"{number}.db")
            threads = [threading.Thread(target=_open_once, args=(file, wrong)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert wrong == []


def _open_once(path: Path, wrong: list[StoreError]) -> None:
    try:
        SqliteStore(path).close()
    except StoreError as error:
        wrong.append(error)


def test_waits_for_the_switch_to_wal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process makes the same file, the switch to write-ahead logging is tried again, but not for ever."""
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as db,
    ):
        monkeypatch.setattr("time.sleep", lambda _seconds: None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            sqlite_schema.use_wal(db)
        monkeypatch.setattr("time.sleep", lambda _seconds: other.execute("ROLLBACK"))
        sqlite_schema.use_wal(db)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


class TestMigrations:
    """From one schema to the next."""

    @pytest.mark.parametrize("number", range(len(sqlite_schema.MIGRATIONS[0])))
    def test_killed_within_a_migration(self, path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        """Stopped before any of its statements a migration leaves the former schema, and the next start goes on."""
        first = list(sqlite_schema.MIGRATIONS[0])
        with monkeypatch.context() as patch:
            broken = (*first[:number], "SELECT killed()")
            patch.setattr(sqlite_schema, "MIGRATIONS", (broken,))
            assert "killed" in refusal(path)
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (0,)
            assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        with closing(SqliteStore(path)) as store:
            assert store.apply(batch_of(user_write())) == 1

    def test_next_schema(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A later version brings a file of the present one to its own schema, and what was stored stays."""
        with closing(SqliteStore(path)) as store:
            store.apply(batch_of(user_write()))
            before = everything(store)
        later = (*sqlite_schema.MIGRATIONS, ("CREATE TABLE later(x)",))
        monkeypatch.setattr(sqlite_schema, "MIGRATIONS", later)
        with closing(SqliteStore(path)) as store:
            assert everything(store) == before
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (len(later),)

    def test_a_file_of_the_first_schema(self, path: Path) -> None:
        """Records in a file that the first version made are listed, and due to be asked about, like others."""
        columns = (int(Status.PENDING), OPEN, 1, AT, AT, pack(evidence_of(user_write())), version_hash(KEY, VERSION))
        with closing(sqlite3.connect(path)) as db:
            for statement in sqlite_schema.MIGRATIONS[0]:
                db.execute(statement)
            db.execute(
                "INSERT INTO version(status, flags, open, sort_at, changed_at, body, id, key, version_id)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*columns, KEY, VERSION),
            )
            db.execute("PRAGMA user_version = 1")
            db.commit()
        with closing(SqliteStore(path)) as store:
            assert [(due.record.version_id, due.asks, due.due_at) for due in store.due(AT + 9, 9, 9)] == [
                (VERSION, 0, AT + 9)
            ]
            assert store._db.execute("SELECT source FROM version").fetchall() == [(SOURCE,)]
            assert statuses(store) == [Status.PENDING]

    def test_marked_as_ours(self, path: Path) -> None:
        """The file names its program and its schema."""
        SqliteStore(path).close()
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"CRR1"),)
            assert db.execute("PRAGMA user_version").fetchone() == (len(sqlite_schema.MIGRATIONS),)
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_due_reads_nothing_else(path: Path) -> None:
    """What is due is found by two indexes, in their order: the table is not scanned, and nothing is sorted."""
    with closing(SqliteStore(path)) as store:
        for sql, places in (
            (sqlite_due.UNASKED, 4),
            (sqlite_due.ASKED, 4),
            (sqlite_due.NEXT_UNASKED, 1),
            (sqlite_due.NEXT_ASKED, 1),
        ):
            plan = [row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {sql}", (1, 2, 3, 4)[:places])]
            assert len(plan) == 1
            assert plan[0].startswith("SEARCH version USING ")
            assert "INDEX version_unasked (" in plan[0] or "INDEX version_asked (" in plan[0]


def test_a_look_reads_what_it_gives(path: Path) -> None:
    """However much of one bucket is due, a look unpacks no more rows than it gives, and one of each bucket's ends."""
    with closing(SqliteStore(path)) as store:
        store.apply(batch_of(*versions_at(*range(400)), topology=THREE_SOURCES))
        late = [user_write("other", version_id=f"o{number}", at=AT + 500 + number) for number in range(3)]
        store.apply(batch_of(*late, topology=THREE_SOURCES))
        with patch("crr_monitor.stores.sqlite_due.unpack", wraps=unpack) as unpacked:
            look = store.look(AT + DAY_MS, OVERDUE, 10)
    assert Counter(due.record.source_bucket for due in look.dues) == {SOURCE: 7, "other": 3}
    assert (look.end, unpacked.call_count <= 12) == (None, True)


def test_disk_full(path: Path) -> None:
    """A full disk stops a batch whole, says what to do, and once there is room the same batch goes in."""
    with closing(SqliteStore(path)) as store:
        store.apply(batch_of(*versions_at(1)))
        before = everything(store)
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        large = batch_of(*versions_at(*range(2, 300)))
        with pytest.raises(StoreError, match=r"the disk is full: free some space and run it again, nothing was lost"):
            store.apply(large)
        assert everything(store) == before
        store._db.execute("PRAGMA max_page_count = 1000000")
        assert store.apply(large) == 298


def test_damaged(path: Path) -> None:
    """A damaged file is told as one, with the way out."""
    with closing(SqliteStore(path)) as store:
        store.apply(batch_of(*versions_at(*range(500))))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with closing(SqliteStore(path)) as store, pytest.raises(StoreError, match="the file is damaged"):
        list(store.records(Query()))


def test_locked(path: Path) -> None:
    """A store that another process holds too long is told as such, and the batch can be tried again."""
    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store._db.execute("PRAGMA busy_timeout = 10")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process has held it"):
            store.apply(batch_of(user_write()))
        other.execute("ROLLBACK")
        assert store.apply(batch_of(user_write())) == 1


def test_halves_of_the_id_may_collide(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys whose hashes begin alike stay apart: the key itself decides."""
    monkeypatch.setattr("crr_monitor.stores.sqlite.key_hash", lambda _key: b"sameness")
    with closing(SqliteStore(path)) as store:
        store.apply(batch_of(user_write(key="a", version_id="1"), user_write(key="b", version_id="2")))
        assert [record.version_id for record in store.versions(SOURCE, "a")] == ["1"]
        assert [record.version_id for record in store.versions(SOURCE, "b")] == ["2"]


def test_many_versions_in_one_batch(path: Path) -> None:
    """A batch may hold more versions than one statement has places."""
    numbers = range(1_003)
    with closing(SqliteStore(path)) as store:
        assert store.apply(batch_of(*versions_at(*numbers))) == len(numbers)
        assert store.apply(batch_of(*[replica(version_id=f"v{number}") for number in numbers])) == len(numbers)
        assert {record.status for record in store.records(Query())} == {Status.COMPLETED}
        assert total(store).completed == len(numbers)


# ------------------------------------------------------------------ processes

ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import os, signal, sys
from crr_monitor.stores.sqlite import SqliteStore
from crr_monitor.stores.base import Counts, Position
from tests.factories import AT, batch_of, replica, user_write

path, kill_at = sys.argv[1], int(sys.argv[2])
left = kill_at

def step(name):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

store = SqliteStore(path, clock=lambda: AT, step=step)
done = store.position("stream")
for number in range(0 if done is None else done.position, 30):
    events = [user_write(version_id=f"v{number + i}", at=AT + number + i, size=7) for i in range(3)]
    events += [replica(version_id=f"v{number}")]
    position = Position("stream", number + 1)
    store.apply(batch_of(*events, counts=Counts(messages=4), positions=[position], newest_event=AT + number))
    print(number, flush=True)
store.close()
"""


def start_writer(path: Path, kill_at: int = -1) -> subprocess.Popen[bytes]:
    """A process that writes 30 batches, from where the last one came, and is killed at a step."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    arguments = [sys.executable, "-c", WRITER, str(path), str(kill_at)]
    return subprocess.Popen(arguments, env=environment, cwd=ROOT, stdout=subprocess.PIPE)


def run_writer(path: Path, status: int, kill_at: int = -1) -> None:
    """Let a writer run until it ends, or is killed at a step."""
    with start_writer(path, kill_at) as writer:
        writer.communicate()
    assert writer.returncode == status


def contents_of(path: Path) -> dict[str, Any]:
    """All that a store shows, and its position in the stream."""
    with closing(SqliteStore(path)) as store:
        return {**everything(store), "stream": store.position("stream")}


def test_sigkill(path: Path) -> None:
    """A writer killed five times at different steps and resumed ends in what one undisturbed run makes."""
    undisturbed = path.with_name("undisturbed.db")
    run_writer(undisturbed, 0)
    for kill_at in (4, 33, 17, 50, 28):
        run_writer(path, -signal.SIGKILL, kill_at)
    run_writer(path, 0)
    assert contents_of(path) == contents_of(undisturbed)
    assert contents_of(path)["counts"] == Counts(messages=120)


def test_reader_process(path: Path) -> None:
    """A reader in another process than the writer sees whole batches only, and is never kept waiting."""
    SqliteStore(path).close()
    seen = set()
    with start_writer(path) as writer, closing(SqliteStore(path, create=False)) as reader:
        while writer.poll() is None:
            listed = list(reader.records(Query()))
            seen.add(len(listed))
            assert len(listed) == len({record.version_id for record in listed})
        writer.communicate()
        assert writer.returncode == 0
        assert len(list(reader.records(Query()))) == 32
    assert seen <= {0, *range(3, 33)}


def test_versions_after_a_crash(path: Path) -> None:
    """What a killed writer had committed is read from its write-ahead log, also by one who only reads."""
    run_writer(path, -signal.SIGKILL, 50)
    with closing(SqliteStore(path, create=False)) as store:
        assert [record.status for record in store.versions(REPLICA, KEY, "v0")] == [Status.COMPLETED]
        assert store.newest() is not None
        assert store.newest().event_at >= AT  # type: ignore[union-attr]
