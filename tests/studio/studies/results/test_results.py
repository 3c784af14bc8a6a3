"""From stored votes to what a result page and a report say."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import pytest

from calibri.errors import StudyError
from calibri.preference import NoData, Rate
from studio.studies.planning import NewArm, NewPrompt, NewStudy
from studio.studies.protocol import Protocol
from studio.studies.results import charts
from studio.studies.results.analysis import Filter, headline
from studio.studies.results.exports import COLUMNS
from studio.studies.results.reports import to_html, to_markdown
from tests.studio.studies.conftest import World, calibration, hang_pictures, rows


def vote_for(world: World, rater, arm: str) -> None:
    """This rater always prefers this arm, wherever it stands; ties where it is not shown."""
    while rater.view.stage == "vote":
        [(x, y, left)] = world.studies.db.read(
            "SELECT x.label, y.label, a.left_is_x FROM assignments a JOIN pairs p ON p.id = a.pair "
            "JOIN arms x ON x.id = p.arm_x JOIN arms y ON y.id = p.arm_y WHERE token = ?",
            [rater.token],
        )
        if arm not in (x, y):
            rater.vote("tie")
        else:
            rater.vote("left" if (x == arm) == left else "right", response_ms=3000)


@pytest.fixture
def closed(world):
    """Two raters for the calibrated arm, one for the base, six prompts; closed."""
    study = world.study(prompts=6, consensus_k=3)
    for number, arm in enumerate(["calibrated-arm", "calibrated-arm", "base-arm"]):
        vote_for(world, world.rater(study, number).join(), arm)
    return world.studies.set_status(study.id, "closed")


def test_the_win_rate_is_that_of_the_later_arm(world, closed):
    [table] = world.studies.analysis(closed.id).tables["preference"]
    assert (table.arm, table.other) == ("calibrated-arm", "base-arm")
    assert (table.tally.wins, table.tally.losses, table.headline.n) == (12, 6, 18)
    assert table.headline.value == pytest.approx(2 / 3)


def test_the_winning_arm_is_resolved_in_every_row(world, closed):
    kept = world.studies.votes.rows(closed.id)
    assert {row["winning_arm"] for row in kept} == {"calibrated-arm", "base-arm"}
    for row in kept:
        left = row["arm_x"] if row["left_is_x"] else row["arm_y"]
        assert (row["winning_arm"] == left) == (row["side"] == "left")


def test_a_study_without_votes_is_no_data_everywhere(world):
    study = world.study()
    analysis = world.studies.analysis(study.id)
    [table] = analysis.tables["preference"]
    assert isinstance(table.headline, NoData)
    assert analysis.share_kept is None
    assert "no data" in headline(table)
    for text in (to_markdown(analysis), to_html(analysis)):
        assert "no data" in text
        assert "50.0 %" not in text
    assert "no data" in json.dumps(charts.forest(analysis, "preference"))


def test_an_invalidated_vote_is_left_out_and_kept(world, closed):
    vote = rows(world)[0]["id"]
    world.studies.votes.invalidate(vote, "pressed by a cat")
    analysis = world.studies.analysis(closed.id)
    assert (analysis.total, analysis.invalid) == (17, 1)
    assert len(rows(world)) == 18
    with pytest.raises(StudyError, match="already"):
        world.studies.votes.invalidate(vote, "again")


def test_invalidating_needs_a_reason(world, closed):
    with pytest.raises(StudyError, match="why"):
        world.studies.votes.invalidate(rows(world)[0]["id"], " ")


def test_consensus_shows_what_it_throws_away(world, closed):
    [table] = world.studies.analysis(closed.id).tables["preference"]
    assert (table.consensus.kept, table.consensus.eligible) == (0, 6)
    assert isinstance(table.consensus.rate, NoData)
    assert isinstance(table.consensus.unfiltered, Rate)


def test_a_filter_always_says_what_is_left(world, closed):
    analysis = world.studies.analysis(closed.id, Filter(consensus=2))
    assert (analysis.kept, analysis.total, analysis.share_kept) == (0, 18, 0.0)
    assert "0 of 18 votes are read" in to_markdown(analysis)


def test_flagged_raters_can_be_left_out(world):
    study = world.study(prompts=20, cap=40)
    world.rater(study, 1).join().vote_all("left")
    vote_for(world, world.rater(study, 2).join(), "base-arm")
    everybody = world.studies.analysis(study.id)
    assert [bool(r.flags) for r in everybody.raters].count(True) == 1
    fewer = world.studies.analysis(study.id, Filter(without_flagged=True))
    assert (fewer.kept, fewer.total) == (20, 40)
    assert fewer.tables["preference"][0].tally.losses == 20


def test_three_arms_get_strengths_and_every_pair(world):
    study = world.study(prompts=4, arms=3)
    vote_for(world, world.rater(study).join(), "ensemble-arm")
    analysis = world.studies.analysis(study.id)
    assert len(analysis.tables["preference"]) == 3
    assert analysis.strengths["preference"].arms[0].arm == "ensemble-arm"
    assert charts.strengths(analysis, "preference")["data"]
    text = json.dumps(charts.matrix(analysis, "preference"))
    assert "ensemble-arm" in text


def test_looking_early_is_told(world):
    study = world.study()
    world.studies.unblind(study.id, "results page")
    assert "looked at 1 times while the study was open" in to_markdown(world.studies.analysis(study.id))


def test_looking_at_a_closed_study_is_nobody_s_business(world, closed):
    world.studies.unblind(closed.id, "results page")
    assert world.studies.analysis(closed.id).looks == ()


def test_the_report_names_what_is_needed_to_repeat_it(world, closed):
    analysis = world.studies.analysis(closed.id)
    for text in (to_markdown(analysis), to_html(analysis)):
        for word in (
            closed.protocol.hash,
            f"{closed.seed}",
            "duckdb 2",
            "tabletop",
            "inflates",
            "Krippendorff",
        ):
            assert word in text
        assert analysis.arms[1].calibration_hash in text


def test_labels_cannot_break_the_report(world):
    from studio.studies.planning import NewStudy
    from tests.studio.studies.conftest import calibration

    evil = "<script>alert(1)</script>|x"
    spec = NewStudy(
        name="<b>evil</b>",
        arms=({"label": evil}, {"label": "ok", "kind": "calibrated", "calibration": calibration()}),
        prompts=({"text": "p"},),
    )
    analysis = world.studies.analysis(world.studies.create(spec).id)
    assert "<script>" not in to_html(analysis) + to_markdown(analysis)
    assert "<script>" not in json.dumps(charts.forest(analysis, "preference")["data"])


# files


def test_csv_and_jsonl_have_one_row_a_vote(world, closed):
    table = list(csv.DictReader(io.StringIO(world.studies.export(closed.id, "csv").read_text())))
    lines = [json.loads(line) for line in world.studies.export(closed.id, "jsonl").read_text().splitlines()]
    assert len(table) == len(lines) == 18
    assert list(table[0]) == list(lines[0]) == list(COLUMNS)
    assert {row["id"] for row in table} == {row["id"] for row in rows(world)}


def test_parquet_has_the_same_rows(world, closed):
    path = world.studies.export(closed.id, "parquet")
    kept = world.studies.db.records(f"SELECT * FROM '{path}' ORDER BY id")
    assert list(kept[0]) == list(COLUMNS)
    assert [row["id"] for row in kept] == sorted(row["id"] for row in rows(world))


def test_a_formula_in_a_remark_stays_text_in_csv(world):
    study = world.study(prompts=1, comments=True)
    world.rater(study).join().vote("left", comment='=HYPERLINK("http://x")')
    [row] = csv.DictReader(io.StringIO(world.studies.export(study.id, "csv").read_text()))
    assert row["comment"].startswith("'=")


def test_chosen_and_rejected_are_the_pictures_of_winner_and_loser(world, closed):
    lines = world.studies.export(closed.id, "preferences").read_text().splitlines()
    made = [json.loads(line) for line in lines]
    assert len(made) == 18
    by_id = {row["id"]: row for row in world.studies.votes.rows(closed.id)}
    for row in made:
        vote = by_id[row["vote"]]
        assert row["chosen_arm"] == vote["winning_arm"]
        assert row["chosen"] == f"images/{vote['image_x' if vote['winner'] == 'x' else 'image_y']}.png"
        assert row["rejected"] != row["chosen"]


def test_the_zip_holds_the_whole_closed_study(world, closed):
    with zipfile.ZipFile(world.studies.export(closed.id, "zip")) as kept:
        names = set(kept.namelist())
        files = {
            "protocol.json",
            "study.json",
            "votes.csv",
            "votes.jsonl",
            "votes.parquet",
            "report.md",
            "report.html",
        }
        assert files | {"preferences.jsonl"} <= names
        assert len([n for n in names if n.startswith("images/")]) == 12
        about = json.loads(kept.read("study.json"))
        assert about["protocol_sha256"] == closed.protocol.hash
        for line in kept.read("preferences.jsonl").decode().splitlines():
            assert {json.loads(line)["chosen"], json.loads(line)["rejected"]} <= names


def test_an_open_study_has_no_zip(world):
    with pytest.raises(StudyError, match="Close the study first"):
        world.studies.export(world.study().id, "zip")


def test_no_export_holds_the_key(world, closed):
    key = world.studies.key()
    for format in ("csv", "jsonl", "parquet", "zip", "html"):
        data = world.studies.export(closed.id, format).read_bytes()
        assert key not in data
        assert key.hex().encode() not in data


def test_arms_that_have_not_met_say_so_in_the_matrix_and_no_votes_draw_none(world):
    study = world.study(prompts=4, arms=3)
    assert charts.matrix(world.studies.analysis(study.id), "preference") is None
    assert charts.strengths(world.studies.analysis(study.id), "preference") is None
    rater = world.rater(study).join()
    for _ in range(
        4
    ):  # arms come in turns: one pair of arms has met twice, which is the least for an interval
        rater.vote()
    drawn = charts.matrix(world.studies.analysis(study.id), "preference")
    values = [v for row in drawn["data"][0]["z"] for v in row]
    assert sum(v is not None for v in values) == 2  # that pair of arms, both ways
    assert [a["text"] for a in drawn["layout"]["annotations"]] == ["no data"] * 4


FORMULAS = ["=1+1", " =1+1", "\u00a0=1+1", "\u200b@SUM(1)", "\ufeff-1", "\t=1", "\r1"]
FORMULAS += ["＝1+1", " ＠x", "﹢1", "−1"]


def test_no_cell_of_the_csv_begins_as_a_formula_does_in_some_spreadsheet(world):
    harmless = ["a = b", "1-2", " a cube", "名前"]
    new = NewStudy(
        name="formulas",
        arms=(NewArm(label="base"), NewArm(label=" =arm", kind="calibrated", calibration=calibration())),
        prompts=tuple(NewPrompt(text=text) for text in (*FORMULAS, *harmless)),
        protocol=Protocol(least_view_ms=0, cap=100),
    )
    study = world.studies.create(new)
    hang_pictures(world.studies, study.id)
    world.studies.set_status(study.id, "open")
    world.rater(study).join().vote_all()
    text = world.studies.export(study.id, "csv").read_bytes().decode()
    cells = {(row["prompt"], row["arm_y"]) for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert cells == {(f"'{p}", "' =arm") for p in FORMULAS} | {(p, "' =arm") for p in harmless}
