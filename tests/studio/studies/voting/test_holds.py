"""People who only agree to take part keep nobody from voting: places that nobody looks at are given up."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.studies.http import routes
from studio.studies.voting.rates import NEWCOMERS, PERSON, Rates
from tests.studio.studies.conftest import rows


class Seconds:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def client(world, seconds):
    with TestClient(Starlette(routes=routes(world.studies, Rates(seconds)))) as made:
        yield made


def post(client, what: str, study, rater: int | str, **more):
    name = f"{rater:032x}" if isinstance(rater, int) else rater
    return client.post(f"/ballot/{what}", json={"study": study.id, "rater": name, **more})


def fetch(client, view: dict) -> None:
    for showing in view["showings"]:
        for side in ("left", "right"):
            assert client.get(f"/ballot/picture/{showing['token']}/{side}").status_code == 200


def cast(client, study, rater: int, view: dict, side: str = "left") -> dict:
    token, answers = view["showings"][0]["token"], {q["id"]: side for q in view["questions"]}
    return post(client, "cast", study, rater, token=token, answers=answers).json()


def test_thirty_five_who_only_consent_take_nothing_from_the_next_honest_rater(client, world):
    study = world.study(prompts=10, votes_per_pair=3)
    for rater in range(35):
        assert post(client, "consent", study, rater).status_code == 200
    view = post(client, "look", study, 1000).json()
    assert view["total"] == 10
    view = post(client, "consent", study, 1000).json()
    done = 0
    while view["stage"] == "vote":
        world.clock.move(seconds=2)
        fetch(client, view)
        view = cast(client, study, 1000, view)
        done += 1
    assert done == 10
    assert view["stage"] == "end"
    assert len(rows(world)) == 10


def test_nobody_is_told_that_all_is_done_while_others_look_at_the_last_pairs(client, world):
    study = world.study(prompts=2, votes_per_pair=1)
    fetch(client, post(client, "consent", study, 1).json())  # somebody looks at both pairs
    view = post(client, "consent", study, 2).json()
    assert (view["stage"], view["showings"]) == ("wait", [])
    assert "come back in 3 minutes" in view["text"]
    assert 0 < view["retry_s"] <= 60
    world.clock.move(minutes=4)  # and left them lying
    view = post(client, "look", study, 2).json()
    assert view["stage"] == "vote"
    fetch(client, view)
    while view["stage"] == "vote":
        view = cast(client, study, 2, view)
    assert view["stage"] == "end"


def test_whoever_comes_back_to_a_pair_that_was_given_up_still_votes_on_it(client, world):
    study = world.study(prompts=1, votes_per_pair=1)
    first = post(client, "consent", study, 1).json()
    second = post(client, "consent", study, 2).json()
    assert second["stage"] == "vote"
    for rater, view in ((2, second), (1, first)):
        fetch(client, view)
        assert cast(client, study, rater, view)["stage"] == "end"
    assert len(rows(world)) == 2


def test_a_place_that_nobody_looks_at_is_free_after_minutes_and_one_that_is_looked_at_is_not(client, world):
    study = world.study(prompts=2, votes_per_pair=1)
    looked = post(client, "consent", study, 1).json()
    fetch(client, {"showings": looked["showings"][:1]})  # the other one is never loaded
    book = world.studies.voting._books[study.id]
    assert sum(book.load.values()) == 2
    world.clock.move(minutes=6)
    view = post(client, "consent", study, 2).json()
    assert [s["prompt"] for s in view["showings"]] == [looked["showings"][1]["prompt"]]


def test_a_restart_keeps_who_voted_and_frees_what_nobody_looks_at(client, world):
    study = world.study(prompts=1, votes_per_pair=1)
    post(client, "consent", study, 1)
    world.reopen()
    with TestClient(Starlette(routes=routes(world.studies))) as other:
        assert post(other, "consent", study, 2).json()["stage"] == "vote"


def test_who_asks_too_often_is_told_when_to_go_on_and_nobody_else_is(client, world, seconds):
    study = world.study()
    answers = [post(client, "look", study, 1) for _ in range(int(PERSON.burst) + 1)]
    assert {a.status_code for a in answers[:-1]} == {200}
    refused = answers[-1]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "Try again in 1 second" in refused.json()["text"]
    assert post(client, "look", study, 2).status_code == 200
    seconds.now += 1
    assert post(client, "look", study, 1).status_code == 200


def test_invented_identities_cannot_all_join_at_once_and_who_has_joined_goes_on_voting(
    client, world, seconds
):
    study = world.study()
    view = post(client, "consent", study, 0).json()
    codes = [post(client, "consent", study, n).status_code for n in range(1, int(NEWCOMERS.burst) + 20)]
    assert codes.count(200) == NEWCOMERS.burst - 1
    assert set(codes[int(NEWCOMERS.burst) :]) == {429}
    world.clock.move(seconds=2)
    fetch(client, view)
    assert cast(client, study, 0, view)["votes"]
    assert post(client, "consent", study, 0).status_code == 200
    seconds.now += 60
    assert post(client, "consent", study, "f" * 32).status_code == 200
