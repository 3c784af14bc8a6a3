"""The two cookies of a public studio: what is signed, what is believed, and for how long."""

from __future__ import annotations

import pytest

from studio.access.limits import STRANGER
from studio.access.signin import SESSION, SESSION_SECONDS, TRIES_A_MINUTE, VISITOR, Signin
from studio.settings import Settings


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signin(clock: Clock) -> Signin:
    return Signin(Settings(demo=True, auth="ann:a:b, ben:c"), clock)


def test_the_right_password_signs_in(signin: Signin) -> None:
    cookie = signin.try_password("ann", "a:b")
    assert cookie and signin.organiser({SESSION: cookie}) == "ann"


@pytest.mark.parametrize(
    "name, password", [("ann", "c"), ("ann", ""), ("", "a:b"), ("Ann", "a:b"), ("é", "ü")]
)
def test_another_pair_does_not(signin: Signin, name: str, password: str) -> None:
    assert signin.try_password(name, password) is None


def test_a_session_ends(signin: Signin, clock: Clock) -> None:
    cookie = signin.try_password("ben", "c")
    clock.now += SESSION_SECONDS - 1
    assert signin.organiser({SESSION: str(cookie)}) == "ben"
    clock.now += 2
    assert signin.organiser({SESSION: str(cookie)}) is None


def test_what_this_process_did_not_sign_is_nobody(signin: Signin, clock: Clock) -> None:
    cookie = str(signin.try_password("ann", "a:b"))
    packed, _, mark = cookie.partition(".")
    other = Signin(Settings(demo=True, auth="ann:a:b"), clock)
    forged = [
        cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
        f"{packed}x.{mark}",
        mark,
        "",
        ".",
        "é.é",
        packed,
    ]
    for each in forged:
        assert signin.organiser({SESSION: each}) is None
    assert other.organiser({SESSION: cookie}) is None
    visitor = signin.new_visitor()
    assert signin.organiser({SESSION: visitor}) is None  # signed, but as something else


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


def test_nobody_can_guess_for_long(signin: Signin, clock: Clock) -> None:
    for _ in range(TRIES_A_MINUTE):
        signin.try_password("ann", "guess")
    with pytest.raises(TimeoutError):
        signin.try_password("ann", "a:b")
    clock.now += 60 / TRIES_A_MINUTE
    assert signin.try_password("ann", "a:b")


def test_outside_of_an_event_nobody_calls(signin: Signin) -> None:
    assert signin.caller() is None
