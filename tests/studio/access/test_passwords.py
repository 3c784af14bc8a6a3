"""Passwords: hashes of scrypt, the file of accounts, and what an unknown name costs."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from calibri.cli import parser
from studio.access.passwords import Accounts, Hash, PasswordError, make_line, read_file
from studio.settings import Settings, read_settings

ROOT = Path(__file__).resolve().parents[3]
ODD = ["a:b", "a,b", "ann:x,ben:y", " spaces ", "ü\u00a0€", "\\,", "#", "'\"", "x" * 1024]


def accounts(folder: Path, *lines: str) -> Accounts:
    file = folder / "accounts"
    file.write_text("\n".join(lines), encoding="utf-8")
    return Accounts.read(Settings(auth_file=str(file)))


def test_scrypt_is_that_of_the_rfc() -> None:
    """RFC 7914, section 12, the third vector, cut to our length (the last block of PBKDF2 stands alone)."""
    made = hashlib.scrypt(b"pleaseletmein", salt=b"SodiumChloride", n=16384, r=8, p=1, dklen=64)
    assert made.hex().startswith("7023bdcb3afd7348461c06cd81fd38eb")
    kept = Hash(16384, 8, 1, b"SodiumChloride", made[:32])
    assert kept.fits("pleaseletmein") and not kept.fits("pleaseletmeout")


def test_a_hash_fits_its_password_only_and_says_nothing_of_it() -> None:
    line = make_line("ann", "secret word")
    assert line.startswith("ann:scrypt$32768$8$3$") and "secret" not in line
    read = Hash.read(line.partition(":")[2])
    assert read.fits("secret word") and not read.fits("secret word ") and not read.fits("")
    assert make_line("ann", "secret word") != line  # another salt


def test_any_character_may_stand_in_a_password_of_the_file(tmp_path: Path) -> None:
    lines = [f"name{i}:{Hash.make(password, n=16)}" for i, password in enumerate(ODD)]
    known = accounts(tmp_path, "# who organises", "", *lines)
    for i, password in enumerate(ODD):
        assert known.check(f"name{i}", password)
        assert not known.check(f"name{i}", password + "x") and not known.check("nobody", password)


@pytest.mark.parametrize(
    "line",
    [
        "ann:password",
        "ann",
        ":scrypt$16$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "ann:scrypt$17$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "ann:scrypt$1073741824$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "ann:scrypt$-16$-8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "ann:scrypt$16$8$1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "ann:scrypt$16$8$1$AAAAAAAAAAAAAAAAAAAAAA==$",
        "ann:scrypt$16$8$hunter2",
    ],
)
def test_a_line_that_is_no_account_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(PasswordError, match="line 2") as refused:
        accounts(tmp_path, "# first", line)
    assert "hunter2" not in str(refused.value) and "password@" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_what_is_no_file_of_accounts_is_refused(tmp_path: Path) -> None:
    empty, latin = tmp_path / "empty", tmp_path / "latin"
    empty.write_text("# nobody\n")
    latin.write_bytes(b"\xe9:x")
    for path in (tmp_path / "missing", tmp_path, empty, latin):
        with pytest.raises(PasswordError, match="--auth-file"):
            read_file(path)
    twice = [f"ann:{Hash.make('a', n=16)}"] * 2
    with pytest.raises(PasswordError, match="line 2"):
        accounts(tmp_path, *twice)
    (tmp_path / "one").write_text(twice[0])
    with pytest.raises(PasswordError, match="ann"):
        Accounts.read(Settings(auth="ann:x", auth_file=str(tmp_path / "one")))


def test_every_try_costs_the_same_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no account, one of the file and one of --auth: one scrypt with the same numbers each."""
    (tmp_path / "accounts").write_text(f"ann:{Hash.make('a', n=64)}")
    known = Accounts.read(Settings(auth="ben:b", auth_file=str(tmp_path / "accounts")))
    asked: list[tuple] = []
    real = hashlib.scrypt

    def count(*given, **numbers):
        asked.append(tuple(numbers[n] for n in ("n", "r", "p")))
        return real(*given, **numbers)

    monkeypatch.setattr("hashlib.scrypt", count)
    pairs = [("ann", "a"), ("ann", "x"), ("ben", "b"), ("ben", "x"), ("nobody", "a"), ("", "")]
    assert [known.check(*pair) for pair in pairs] == [True, False, True, False, False, False]
    assert asked == [(64, 8, 3)] * len(pairs)


def test_in_the_environment_a_comma_is_written_with_a_backslash() -> None:
    assert Settings(auth=r"ann:a\,b:c, ben:d\e").accounts == [("ann", "a,b:c"), ("ben", r"d\e")]
    with pytest.raises(ValueError, match="comma within a password"):
        _ = Settings(auth="ann:a,b").accounts


def test_accounts_that_cannot_be_read_end_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "accounts").write_text("ann:hunter2\n")
    command = [sys.executable, "app.py", "--port", "0", "--data", str(tmp_path / "data")]
    done = subprocess.run(
        [*command, "--auth-file", str(tmp_path / "accounts")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and "line 1 of accounts" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout and "Traceback" not in done.stderr
    assert read_settings([], {"CALIBRI_AUTH_FILE": "x"}).has_accounts


def test_the_command_prints_a_line_that_the_studio_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parser().parse_args(["studio", "hash-password", "ann"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("a, b: c\n"))
    assert args.run(args) == 0
    printed = capsys.readouterr().out
    assert "a, b" not in printed
    assert accounts(tmp_path, printed.strip()).check("ann", "a, b: c")
    for name in ("", "a:b", " ann", "#ann"):
        with pytest.raises(PasswordError):
            make_line(name, "x")
    for password in ("", "x" * 1025):
        with pytest.raises(PasswordError):
            make_line("ann", password)
