"""What a rater may do, and what nobody may: each refusal changes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from studio.studies.protocol import PREFERENCE, Question
from studio.studies.voting.ballots import Refused
from studio.studies.voting.identity import Who
from tests.studio.studies.conftest import World, rows

LEFT = {"preference": "left"}


def refused(world: World, code: str, call) -> None:
    """The call is refused with this code, and no table changes."""

    def state():
        return [
            world.studies.db.read(f"SELECT * FROM {t} ORDER BY ALL")
            for t in ("votes", "assignments", "vote_events", "raters")
        ]

    before = state()
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.code == code
    assert str(caught.value)
    assert state() == before


# the way through


def test_first_comes_the_instruction_and_consent(world):
    study = world.study()
    view = world.studies.voting.look(study.id, world.rater(study).who)
    assert view.stage == "welcome"
    assert view.text and view.consent
    assert view.showings == ()
    assert rows(world) == []


def test_a_vote_is_stored_with_the_winner_its_side_meant(world):
    study = world.study()
    rater = world.rater(study).join()
    token = rater.token
    view = rater.vote("left", response_ms=1234.5, shown_ms=2000)
    [vote] = rows(world)
    [(left_is_x,)] = world.studies.db.read("SELECT left_is_x FROM assignments WHERE token = ?", [token])
    assert vote["winner"] == ("x" if left_is_x else "y")
    assert (vote["side"], vote["response_ms"], vote["shown_ms"]) == ("left", 1234, 2000)
    assert view.votes == (vote["id"],)
    assert (view.done, view.total) == (1, 6)


def test_all_questions_of_a_pair_are_one_vote(world):
    study = world.study(questions=(PREFERENCE, Question(id="alignment", text="Which follows the text?")))
    rater = world.rater(study).join()
    view = rater.vote("tie")
    assert len(view.votes) == 2
    assert {(v["question"], v["winner"]) for v in rows(world)} == {
        ("preference", "tie"),
        ("alignment", "tie"),
    }


def test_a_rater_sees_every_pair_once_and_then_the_end(world):
    study = world.study(prompts=6)
    rater = world.rater(study).join()
    assert rater.vote_all() == 6
    assert rater.view.stage == "end"
    assert len({v["pair"] for v in rows(world)}) == 6


def test_who_comes_back_goes_on_where_they_stopped(world):
    study = world.study()
    rater = world.rater(study).join()
    rater.vote()
    before = rater.view.showings
    world.reopen()
    again = world.rater(study)
    view = world.studies.voting.look(study.id, again.who)
    assert view.showings == before
    assert view.done == 1


def test_the_next_pair_comes_along_so_that_its_pictures_can_load(world):
    study = world.study()
    rater = world.rater(study).join()
    second = rater.view.showings[1]
    rater.vote()
    assert rater.view.showings[0] == second


def test_undo_shows_the_pair_again_with_the_same_sides_and_keeps_the_old_answer(world):
    study = world.study()
    rater = world.rater(study).join()
    token, prompt = rater.token, rater.view.showings[0]["prompt"]
    rater.vote("left")
    voting = world.studies.voting
    left = voting.pictures.read(token, "left")
    rater.view = voting.undo(study.id, rater.who)
    assert rows(world) == []
    assert rater.view.showings[0]["prompt"] == prompt
    assert rater.token != token
    assert voting.pictures.read(rater.token, "left") == left
    [event] = [e for e in world.studies.votes.events(study.id) if e["kind"] == "undo"]
    assert '"side": "left"' in event["detail"]
    rater.vote("right")
    assert [v["side"] for v in rows(world)] == ["right"]


def test_a_view_holds_nothing_of_arms_sides_or_checks(world):
    study = world.study(gold_rate=0.3, repeat_rate=0.3, repeat_gap=1)
    rater = world.rater(study).join()
    for _ in range(6):
        assert set(rater.view.showings[0]) == {"token", "prompt"}
        text = repr(rater.view)
        for word in ("base-arm", "calibrated-arm", "gold", "repeat", "left_is_x", study.id + ":"):
            assert word not in text
        rater.vote()


def test_invites_are_one_rater_each_wherever_they_are_opened(world):
    study = world.study(access="invite")
    voting = world.studies.voting
    code = voting.identities.make_invite(study.id, 7)
    for browser in ("a" * 32, "b" * 32):
        assert voting.recognise(study.id, browser, code) == Who("invite", "7")


def test_a_rater_is_another_one_in_another_study(world):
    one, two = world.study(name="one"), world.study(name="two")
    who = world.rater(one).who
    hashed = world.studies.voting.identities.hash_rater
    assert hashed(one.id, who) != hashed(two.id, who)


def test_no_identity_is_stored(world):
    study = world.study()
    world.rater(study).join().vote()
    secret = world.rater(study).who.identity
    world.studies.snapshots.take("test")
    world.studies.close()
    files = [p for p in world.folder.rglob("*") if p.is_file()]
    assert files
    assert not any(secret.encode() in p.read_bytes() for p in files)


# what is refused


@pytest.mark.parametrize("token", ["0" * 32, "", None, 5, "x" * 32, "' OR 1=1 --", "0" * 1_000_000, ["a"]])
def test_a_forged_token(world, token):
    study = world.study()
    rater = world.rater(study).join()
    refused(
        world,
        "token",
        lambda: world.studies.voting.cast(study.id, rater.who, token, LEFT),
    )


def test_a_token_of_another_study(world):
    one, two = world.study(name="one"), world.study(name="two")
    rater, other = world.rater(one).join(), world.rater(two).join()
    refused(
        world,
        "token",
        lambda: world.studies.voting.cast(two.id, other.who, rater.token, LEFT),
    )


def test_a_foreign_token(world):
    study = world.study()
    rater, other = world.rater(study, 1).join(), world.rater(study, 2).join()
    refused(
        world,
        "foreign",
        lambda: world.studies.voting.cast(study.id, other.who, rater.token, LEFT),
    )


def test_a_used_token_with_another_answer(world):
    study = world.study()
    rater = world.rater(study).join()
    token = rater.token
    rater.vote("left")
    refused(
        world, "used", lambda: world.studies.voting.cast(study.id, rater.who, token, {"preference": "right"})
    )


def test_the_same_vote_sent_twice_is_one_vote_acknowledged_twice(world):
    study = world.study()
    rater = world.rater(study).join()
    token = rater.token
    first = rater.vote("left")
    again = world.studies.voting.cast(study.id, rater.who, token, LEFT)
    assert again.votes == first.votes
    assert again.again
    assert len(rows(world)) == 1


def test_ten_clicks_at_once_are_one_vote(world):
    study = world.study()
    rater = world.rater(study).join()
    token = rater.token
    with ThreadPoolExecutor(10) as pool:
        views = list(
            pool.map(
                lambda _: world.studies.voting.cast(study.id, rater.who, token, LEFT),
                range(10),
            )
        )
    assert len({v.votes for v in views}) == 1
    assert sum(not v.again for v in views) == 1
    assert len(rows(world)) == 1


def test_an_expired_token(world):
    study = world.study(expires_minutes=10)
    rater = world.rater(study).join()
    world.clock.move(minutes=11)
    refused(
        world,
        "expired",
        lambda: world.studies.voting.cast(study.id, rater.who, rater.token, LEFT),
    )


def test_who_returns_after_the_expiry_gets_the_same_pair_and_sides_under_a_fresh_token(world):
    study = world.study(expires_minutes=10)
    rater = world.rater(study).join()
    token, prompt = rater.token, rater.view.showings[0]["prompt"]
    left = world.studies.voting.pictures.read(token, "left")
    world.clock.move(minutes=11)
    rater.view = world.studies.voting.look(study.id, rater.who)
    assert rater.view.showings[0]["prompt"] == prompt
    assert rater.token != token
    assert world.studies.voting.pictures.read(rater.token, "left") == left
    with pytest.raises(Refused):
        world.studies.voting.pictures.read(token, "left")
    rater.vote()
    assert len(rows(world)) == 1


@pytest.mark.parametrize(
    "answers",
    [
        {"preference": "middle"},
        {"preference": "x"},
        {"preference": None},
        {"preference": ["left"]},
        {"preference": 1},
        {},
        {"preference": "left", "other": "left"},
        {"other": "left"},
        "left",
        None,
    ],
)
def test_an_answer_out_of_range(world, answers):
    study = world.study()
    rater = world.rater(study).join()
    refused(world, "answers", lambda: world.studies.voting.cast(study.id, rater.who, rater.token, answers))


def test_an_answer_that_the_protocol_does_not_offer(world):
    study = world.study(extra_answers=())
    rater = world.rater(study).join()
    refused(world, "answers", lambda: rater.vote("tie"))


@pytest.mark.parametrize("time", [-1, float("nan"), float("inf"), "12", True])
def test_a_time_that_is_none(world, time):
    study = world.study()
    rater = world.rater(study).join()
    refused(world, "answers", lambda: rater.vote("left", response_ms=time))


def test_a_comment_of_a_megabyte(world):
    study = world.study(comments=True)
    rater = world.rater(study).join()
    refused(world, "comment", lambda: rater.vote("left", comment="a" * 1_000_000))


def test_a_comment_is_kept_where_the_protocol_asks_for_one(world):
    asks, not_asks = world.study(name="one", comments=True), world.study(name="two")
    world.rater(asks).join().vote(comment="<b>blurred</b>\x00 hands")
    world.rater(not_asks).join().vote(comment="unasked")
    assert {v["study"]: v["comment"] for v in rows(world)} == {
        asks.id: "<b>blurred</b> hands",
        not_asks.id: None,
    }


def test_a_vote_when_the_study_was_closed_meanwhile(world):
    study = world.study()
    rater = world.rater(study).join()
    rater.vote()
    world.studies.set_status(study.id, "closed")
    refused(world, "closed", rater.vote)
    view = world.studies.voting.look(study.id, rater.who)
    assert (view.stage, len(rows(world))) == ("end", 1)
    assert "closed" in view.text


def test_a_vote_sent_before_the_close_is_acknowledged_after_it(world):
    study = world.study()
    rater = world.rater(study).join()
    token = rater.token
    first = rater.vote("left").votes
    world.studies.set_status(study.id, "closed")
    assert world.studies.voting.cast(study.id, rater.who, token, LEFT).votes == first


@pytest.mark.parametrize("name", ["nowhere", "", "x" * 10_000])
def test_a_study_that_is_none(world, name):
    world.study()
    with pytest.raises(Refused, match="no such study"):
        world.studies.voting.look(name, Who("anonymous", "a" * 32))


def test_a_draft_is_nobody_s_business(world):
    study = world.draft()
    with pytest.raises(Refused, match="no such study"):
        world.rater(study).join()


def test_voting_without_consent_has_no_token_to_vote_with(world):
    study = world.study()
    rater = world.rater(study)
    assert world.studies.voting.look(study.id, rater.who).showings == ()
    assert world.studies.db.read("SELECT * FROM raters") == []


@pytest.mark.parametrize(
    "invite", ["8-" + "0" * 20, "7", "-", "7-", "x-y", "٧-" + "0" * 20, "9" * 5000 + "-a"]
)
def test_an_invite_that_nobody_signed(world, invite):
    study = world.study(access="invite")
    with pytest.raises(Refused, match="invite link"):
        world.studies.voting.recognise(study.id, "a" * 32, invite)


def test_an_invite_of_another_study(world):
    one, two = world.study(name="one", access="invite"), world.study(name="two", access="invite")
    voting = world.studies.voting
    with pytest.raises(Refused, match="invite link"):
        voting.recognise(two.id, "a" * 32, voting.identities.make_invite(one.id, 1))


def test_an_invitation_is_needed_where_the_protocol_says_so(world):
    study = world.study(access="invite")
    with pytest.raises(Refused, match="invitation"):
        world.studies.voting.recognise(study.id, "a" * 32)


@pytest.mark.parametrize("identity", [None, "", "short", "a" * 65, "../../../etc/passwd!", 5, {"a": 1}])
def test_an_identity_that_is_none(world, identity):
    study = world.study()
    with pytest.raises(Refused, match="Reload"):
        world.studies.voting.recognise(study.id, identity)


def test_undo_of_nothing(world):
    study = world.study()
    rater = world.rater(study).join()
    refused(world, "nothing", lambda: world.studies.voting.undo(study.id, rater.who))


def test_undo_after_the_close(world):
    study = world.study()
    rater = world.rater(study).join()
    rater.vote()
    world.studies.set_status(study.id, "closed")
    refused(world, "closed", lambda: world.studies.voting.undo(study.id, rater.who))


@pytest.mark.parametrize("side", ["x", "", None, "../left"])
def test_a_picture_that_is_none(world, side):
    study = world.study()
    rater = world.rater(study).join()
    with pytest.raises(Refused):
        world.studies.voting.pictures.read(rater.token, side)


def test_html_in_a_prompt_stays_text(world):
    from studio.studies.planning import read_prompts

    [prompt] = read_prompts("<img src=x onerror=alert(1)>")
    assert prompt.text == "<img src=x onerror=alert(1)>"  # escaped where it is shown: see the page's tests


def test_a_vote_sooner_than_anybody_can_look_is_refused_and_can_be_given_later(world):
    study = world.study(least_view_ms=800)
    rater = world.rater(study).join()
    rater.looks = 0
    with pytest.raises(Refused) as refusal:
        rater.vote()
    assert refusal.value.code == "early"
    assert rows(world) == []
    world.clock.move(seconds=1)
    rater.vote()
    with pytest.raises(Refused):
        rater.vote()
    assert len(rows(world)) == 1


def test_a_clock_set_back_shuts_nobody_out(world):
    rater = world.rater(world.study(least_view_ms=800)).join()
    rater.looks = 0
    world.clock.move(hours=-1)
    rater.vote()
    assert rows(world)[0]["server_ms"] == 0


@pytest.mark.parametrize("claimed", [None, 60_000])
def test_who_answers_at_once_and_claims_to_have_looked_is_flagged(world, claimed):
    study = world.study(prompts=8)
    rater = world.rater(study).join()
    rater.looks = 0.1
    while rater.view.stage == "vote":
        rater.vote("left", response_ms=claimed)
    [report] = world.studies.analysis(study.id).raters
    assert any("median" in flag for flag in report.flags)


def test_who_only_looks_is_told_how_much_there_is_and_leaves_nothing_behind(world):
    study = world.study(prompts=3)
    view = world.studies.voting.look(study.id, world.rater(study).who)
    assert (view.stage, view.total) == ("welcome", 3)
    assert not world.studies.voting._books[study.id].raters
    assert world.studies.db.read("SELECT count(*) FROM raters") == [(0,)]
