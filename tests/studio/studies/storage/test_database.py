from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from calibri.errors import StudyError
from studio.studies.storage.database import Database, connect, migrate, migrations, open_secret

OLD = Path(__file__).parent / "votes-of-version-1.duckdb.gz"


@pytest.fixture
def db(tmp_path):
    made = Database(tmp_path / "deep" / "votes.duckdb")
    yield made
    made.close()


def test_nothing_is_made_before_the_first_use(tmp_path):
    Database(tmp_path / "votes.duckdb").close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_first_version_is_upgraded_with_its_votes(tmp_path):
    """The stored file: migration 1 alone, a closed study, two votes, one undo; written by duckdb 2.0.0."""
    path = tmp_path / "votes.duckdb"
    path.write_bytes(gzip.decompress(OLD.read_bytes()))
    db = Database(path)
    assert db.read("SELECT max(version) FROM schema_version") == [(len(migrations()),)]
    assert db.read("SELECT id, winner, comment FROM votes ORDER BY id") == [
        ("v1", "x", None),
        ("v2", "tie", None),
    ]
    assert db.read("SELECT DISTINCT category FROM pairs") == [("",)]
    db.close()
    again = Database(path)
    assert again.read("SELECT count(*) FROM votes") == [(2,)]
    again.close()


def test_votes_of_a_newer_studio_are_not_touched(tmp_path):
    connection = connect(tmp_path / "votes.duckdb")
    migrate(connection)
    connection.execute("INSERT INTO schema_version VALUES (999, 'from-the-future', now()::TIMESTAMP)")
    connection.close()
    with pytest.raises(StudyError, match="newer studio"):
        Database(tmp_path / "votes.duckdb").read("SELECT 1")


def test_a_failed_migration_changes_nothing(tmp_path):
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "0001_good.sql").write_text("CREATE TABLE a (x INTEGER);")
    (folder / "0002_bad.sql").write_text("CREATE TABLE b (x INTEGER); INSERT INTO nowhere VALUES (1);")
    connection = connect(None)
    with pytest.raises(StudyError, match="0002_bad"):
        migrate(connection, folder)
    assert connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall() == [
        ("a",),
        ("schema_version",),
    ]


def test_migrations_without_a_gap_only(tmp_path):
    (tmp_path / "0002_late.sql").write_text("SELECT 1;")
    with pytest.raises(StudyError, match="numbered"):
        migrations(tmp_path)


def test_a_second_owner_is_refused_with_a_sentence(db, tmp_path):
    import subprocess
    import sys

    db.read("SELECT 1")
    code = (
        "import sys; from pathlib import Path; from studio.studies.storage.database import Database\n"
        "try: Database(Path(sys.argv[1])).read('SELECT 1')\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(db.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("FileInUse votes.duckdb is open in another process")


def test_many_threads_write_one_row_each(db):
    db.write(lambda t: t.run("CREATE TABLE n (i INTEGER PRIMARY KEY)"))
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda i: db.write(lambda t: t.run("INSERT INTO n VALUES (?)", [i])), range(300)))
    assert db.read("SELECT count(*), sum(i) FROM n") == [(300, 44850)]


def test_the_same_key_from_many_threads_is_one_row_and_one_winner(db):
    db.write(lambda t: t.run("CREATE TABLE n (i INTEGER PRIMARY KEY, who INTEGER)"))
    gate = threading.Barrier(16)

    def claim(who: int) -> bool:
        def work(t) -> bool:
            if t.read("SELECT 1 FROM n WHERE i = 1"):
                return False
            t.run("INSERT INTO n VALUES (1, ?)", [who])
            return True

        gate.wait()
        return db.write(work)

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(claim, range(16))) == 1


def test_a_job_that_fails_spoils_none_of_those_that_share_its_commit(db):
    db.write(lambda t: t.run("CREATE TABLE n (i INTEGER PRIMARY KEY)"))
    gate = threading.Barrier(20)

    def job(i: int) -> str:
        def work(t) -> str:
            t.run("INSERT INTO n VALUES (?)", [i])
            if i % 5 == 0:
                raise StudyError("after a write")
            return "kept"

        gate.wait()
        try:
            return db.write(work)
        except StudyError as error:
            return str(error)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(job, range(20)))
    assert db.read("SELECT i FROM n ORDER BY i") == [(i,) for i in range(20) if i % 5]
    assert answers.count("after a write") == 4


def test_a_broken_constraint_reaches_whoever_broke_it(db):
    db.write(lambda t: t.run("CREATE TABLE n (i INTEGER PRIMARY KEY)"))
    db.write(lambda t: t.run("INSERT INTO n VALUES (1)"))
    with pytest.raises(duckdb.ConstraintException):
        db.write(lambda t: t.run("INSERT INTO n VALUES (1)"))
    assert db.read("SELECT count(*) FROM n") == [(1,)]


def test_rolling_back_is_told(tmp_path):
    told = []
    db = Database(None, on_rollback=lambda: told.append(1))
    with pytest.raises(ZeroDivisionError):
        db.write(lambda t: 1 / 0)
    assert told
    db.close()


def test_closing_finishes_what_waits_and_takes_nothing_more(db):
    db.write(lambda t: t.run("CREATE TABLE n (i INTEGER)"))
    with ThreadPoolExecutor(8) as pool:
        waiting = [
            pool.submit(db.write, lambda t, i=i: t.run("INSERT INTO n VALUES (?)", [i])) for i in range(40)
        ]
        db.close()
        outcomes = [w.exception() for w in waiting]
    assert all(o is None or isinstance(o, StudyError) for o in outcomes)
    kept = Database(db.path)
    assert kept.read("SELECT count(*) FROM n") == [(sum(o is None for o in outcomes),)]
    kept.close()
    with pytest.raises(StudyError, match="closing"):
        db.write(lambda t: None)


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    path = tmp_path / "data" / "studies.key"
    first = open_secret(path)()
    assert open_secret(path)() == first
    assert len(first) == 32
    assert path.stat().st_mode & 0o777 == 0o600
