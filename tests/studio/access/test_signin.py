"""The sign-in: what is believed, for how long, and how fast it can be guessed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from studio.access import guesses
from studio.access.guesses import Guesses, TooManyGuesses
from studio.access.limits import STRANGER
from studio.access.sessions import MOST_SESSIONS, SESSION_SECONDS, Person, Sessions
from studio.access.signin import KNOWN, SESSION, VISITOR, Signin, session_cookie
from studio.settings import Settings
from tests.studio.asking import run_apart


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signin(clock: Clock, tmp_path: Path) -> Signin:
    return Signin(Settings(demo=True, auth="ann:a:b, ben:c", data=tmp_path), clock=clock)


def enter(signin: Signin, name: str, password: str) -> str | None:
    return run_apart(signin.try_password(name, password))


def test_the_right_password_signs_in(signin: Signin) -> None:
    secret = enter(signin, "ann", "a:b")
    assert secret and signin.organiser({SESSION: secret}) == "ann"


@pytest.mark.parametrize(
    "name, password", [("ann", "c"), ("ann", ""), ("", "a:b"), ("Ann", "a:b"), ("é", "ü"), ("ann", "\ud800")]
)
def test_another_pair_does_not(signin: Signin, name: str, password: str) -> None:
    assert enter(signin, name, password) is None


def test_a_session_ends(signin: Signin, clock: Clock) -> None:
    secret = enter(signin, "ben", "c")
    clock.now += SESSION_SECONDS - 1
    assert signin.organiser({SESSION: str(secret)}) == "ben"
    clock.now += 2
    assert signin.organiser({SESSION: str(secret)}) is None


def test_setting_the_machines_clock_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signin = Signin(Settings(auth="ann:a", data=tmp_path))
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + 30 * 24 * 3600)
    secret = str(enter(signin, "ann", "a"))
    for shift in (0, -365 * 24 * 3600, 365 * 24 * 3600):
        monkeypatch.setattr(time, "time", lambda shift=shift: wall + shift)
        assert signin.organiser({SESSION: secret}) == "ann"


def test_signing_out_ends_the_session_and_every_copy_of_its_cookie(signin: Signin) -> None:
    one, two = str(enter(signin, "ann", "a:b")), str(enter(signin, "ann", "a:b"))
    signin.end({SESSION: one})
    assert signin.organiser({SESSION: one}) is None
    assert signin.organiser({SESSION: two}) == "ann"


def test_what_this_process_did_not_hand_out_is_nobody(signin: Signin, clock: Clock, tmp_path: Path) -> None:
    secret = str(enter(signin, "ann", "a:b"))
    other = Signin(Settings(demo=True, auth="ann:a:b", data=tmp_path), clock=clock)
    forged = [
        secret[:-1],
        secret + "x",
        secret.lower() if secret != secret.lower() else secret.upper(),
        secret[::-1],
        "",
        ".",
        "é.é",
        "None",
        "\ud800",
        "WyJhbm4iLCA5OTk5OTk5OTk5XQ==." + "0" * 64,
        signin.new_visitor(),
        signin.new_known("ann"),
        str(enter(other, "ann", "a:b")),
    ]
    for each in forged:
        assert signin.organiser({SESSION: each}) is None
        assert signin.organiser({VISITOR: secret, KNOWN: secret, "access-token": secret}) is None
    assert other.organiser({SESSION: secret}) is None


def test_studios_at_two_ports_of_a_machine_do_not_sign_each_other_out(signin: Signin) -> None:
    secret = str(enter(signin, "ann", "a:b"))
    names = [session_cookie(host) for host in ("here:7860", "here:7861", "here", "[::1]:7860", "[::1]")]
    assert names == [f"{SESSION}-7860", f"{SESSION}-7861", SESSION, f"{SESSION}-7860", SESSION]
    assert signin.organiser({names[1]: "of another studio", names[0]: secret}) == "ann"


def test_sessions_are_bounded_and_the_oldest_end_first() -> None:
    sessions = Sessions()
    first, *others = [sessions.begin(Person("ann")) for _ in range(MOST_SESSIONS + 1)]
    assert sessions.find([first]) is None
    assert sessions.find([others[0]]) == sessions.find([others[-1]]) == Person("ann")


def test_a_hub_account_that_does_not_organise_is_somebody_but_no_organiser(signin: Signin) -> None:
    secret = signin.begin(Person("eve", organises=False, hub="123"))
    person = signin.person({SESSION: secret})
    assert person is not None and person.hub == "123"
    assert signin.organiser({SESSION: secret}) is None


def test_a_visitor_is_known_by_a_cookie_of_this_studio_only(signin: Signin) -> None:
    one, two = signin.new_visitor(), signin.new_visitor()
    assert signin.visitor({VISITOR: one}) != signin.visitor({VISITOR: two})
    assert signin.visitor({VISITOR: one}) == signin.visitor({VISITOR: one})
    assert (
        signin.visitor({})
        == signin.visitor({VISITOR: "a.b"})
        == signin.visitor({VISITOR: one[2:]})
        == STRANGER
    )


def test_outside_of_an_event_nobody_calls(signin: Signin) -> None:
    assert signin.caller() is None


# guesses


def guess(line: Guesses, clock: Clock, seconds: float, *, addresses: list[str], name: str = "ann") -> int:
    """How many tries an attacker gets in these seconds, who always sends a new one at once."""
    end, checked = clock.now + seconds, 0
    while clock.now < end:
        for address in addresses:
            try:
                line.queue(name, address)
                checked += 1
            except TooManyGuesses:
                pass
        clock.now += 1
    return checked


def test_one_address_guesses_slowly_and_does_not_keep_another_out(clock: Clock) -> None:
    line = Guesses(["ann"], clock)
    assert guess(line, clock, 3600, addresses=["203.0.113.5"]) < 450
    wait, _ = line.queue("ann", "198.51.100.7")
    assert wait <= 2 * guesses.NAME.pause


def test_many_addresses_guess_slowly_and_the_right_person_gets_through(clock: Clock) -> None:
    line = Guesses(["ann"], clock)
    many = [f"203.0.113.{n}" for n in range(20)]
    assert guess(line, clock, 900, addresses=many) < 300
    known, _ = line.queue("ann", "203.0.113.5", "browser")
    assert known == 0  # a browser that has signed in before, at the attacker's own address
    longest = 0.0
    for _ in range(40):  # anybody else needs patience, not luck: there is room once in a pause
        try:
            wait, _ = line.queue("ann", "198.51.100.7")
            break
        except TooManyGuesses as error:
            longest = max(longest, error.seconds)
            clock.now += error.seconds
    else:
        pytest.fail("locked out")
    assert wait <= guesses.NAME.wait and longest <= guesses.NAME.pause + 1


def test_a_long_attack_is_forgotten_in_minutes(clock: Clock) -> None:
    line = Guesses(["ann"], clock)
    guess(line, clock, 3600, addresses=["203.0.113.5", "203.0.113.6"])
    clock.now += 16 * 60
    assert [line.queue("ann", "203.0.113.5")[0] for _ in range(guesses.NAME.free)] == [0] * guesses.NAME.free


def test_right_passwords_do_not_count(clock: Clock) -> None:
    line = Guesses(["ann"], clock)
    for _ in range(200):
        wait, was_right = line.queue("ann", "203.0.113.5")
        assert wait == 0
        was_right()


def test_a_name_that_is_no_account_waits_as_one_that_is(clock: Clock) -> None:
    line = Guesses(["ann"], clock)
    waits = {
        name: [line.queue(name, f"10.0.{i}.{k}")[0] for k in range(14)]
        for i, name in enumerate(["ann", "nobody"])
    }
    assert waits["ann"] == waits["nobody"] and waits["ann"][-1] > 0


def test_all_names_together_are_bounded(clock: Clock) -> None:
    line, checked = Guesses([], clock), 0
    for i in range(6000):  # ten a second for ten minutes, each of another address for another name
        try:
            line.queue(f"name{i}", f"2001:db8:{i:x}::1")
            checked += 1
        except TooManyGuesses:
            pass
        clock.now += 0.1
    assert checked < 3500
    assert len(line._others) <= guesses.MOST_LINES


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("203.0.113.5", "203.0.113.6", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.5", "203.0.113.5", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("testclient", "", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (guesses.network(one) == guesses.network(other)) is same


def test_a_known_browser_is_known_for_its_account_only_and_after_a_restart(tmp_path: Path) -> None:
    settings = Settings(auth="ann:a, ben:b", data=tmp_path)
    cookie = Signin(settings).new_known("ann")
    again = Signin(settings)
    assert again._known_browser("ann", {KNOWN: cookie})
    assert not again._known_browser("ben", {KNOWN: cookie})
    for forged in ("", ".", "x." + cookie.partition(".")[2], cookie[:-1], "é.é"):
        assert not again._known_browser("ann", {KNOWN: forged})
    assert again.organiser({SESSION: cookie}) is None
    assert (tmp_path / "signin.key").stat().st_mode & 0o077 == 0


def test_a_wait_ends_with_the_password_checked(tmp_path: Path) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    signin = Signin(Settings(auth="ann:a", data=tmp_path), sleep=sleep)
    for _ in range(guesses.NAME.free + 1):
        assert enter(signin, "ann", "guess") is None
    assert waits == []
    assert enter(signin, "ann", "a") and waits and 0 < waits[0] <= 1
