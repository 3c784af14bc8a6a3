"""What a rater may do, and what nobody may: each refusal changes nothing."""

from __future__ import annotations

from studio.studies.protocol import PREFERENCE, Question
from studio.studies.voting.identity import Who
from tests.studio.studies.conftest import rows

LEFT = {"preference": "left"}


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
