"""Votes have an order that no clock changes."""

from __future__ import annotations

from tests.studio.studies.conftest import rows


def test_undo_takes_back_the_last_vote_after_the_clock_was_set_back(world):
    study = world.study(prompts=6)
    rater = world.rater(study).join()
    prompts = []
    for side in ("left", "left", "right"):
        if side == "right":
            world.clock.move(hours=-1)
        prompts.append(rater.view.showings[0]["prompt"])
        rater.vote(side)
    rater.view = world.studies.voting.undo(study.id, rater.who)
    assert rater.view.showings[0]["prompt"] == prompts[2]
    assert [v["side"] for v in rows(world)] == ["left", "left"]
    rater.view = world.studies.voting.undo(study.id, rater.who)
    assert [s["prompt"] for s in rater.view.showings][:2] == prompts[1:]


def test_the_order_outlives_a_restart(world):
    study = world.study(prompts=6)
    rater = world.rater(study).join()
    rater.vote()
    world.clock.move(hours=-1)
    world.reopen()
    rater.studies = world.studies
    prompt = rater.view.showings[0]["prompt"]
    rater.vote("right")
    ordered = world.studies.votes.rows(study.id)
    assert [(v["side"], v["number"]) for v in ordered] == sorted(
        ((v["side"], v["number"]) for v in ordered), key=lambda v: v[1]
    )
    assert [v["side"] for v in ordered] == ["left", "right"]
    assert world.studies.voting.undo(study.id, rater.who).showings[0]["prompt"] == prompt


def test_votes_of_a_snapshot_without_an_order_come_first(world, tmp_path):
    import duckdb

    study = world.study(prompts=4)
    rater = world.rater(study).join()
    rater.vote("left")
    rater.vote("left")
    old = world.studies.snapshots.take("old")
    for name in ("votes", "assignments"):
        file = old / f"{name}.parquet"
        duckdb.sql(f"COPY (SELECT * EXCLUDE (number) FROM '{file}') TO '{file}.new' (FORMAT parquet)")
        file.with_name(f"{name}.parquet.new").rename(file)
    rater.vote("right")
    newest = [v["id"] for v in world.studies.votes.rows(study.id)][-1]
    world.studies.db.write(lambda t: t.run("DELETE FROM votes WHERE side = 'left'"))
    world.studies.restore(old)
    ordered = world.studies.votes.rows(study.id)
    assert [v["side"] for v in ordered] == ["left", "left", "right"]
    assert ordered[-1]["id"] == newest
    rater.studies.voting.undo(study.id, rater.who)
    assert [v["side"] for v in world.studies.votes.rows(study.id)] == ["left", "left"]
