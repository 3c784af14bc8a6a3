"""Pictures in the report: which pairs, by which rule, and what of them is shown."""

from __future__ import annotations

import base64
import re
from io import BytesIO

from PIL import Image

from studio.studies.results.analysis import Filter
from studio.studies.results.examples import RULE, SIDE, choose_pairs, make_examples
from studio.studies.results.reports import to_html
from tests.studio.studies.conftest import World, picture

EMBEDDED = re.compile(r'src="data:image/(png|jpeg);base64,([^"]+)"')


def vote(world: World, study, wins: dict[str, str], raters: int = 4) -> None:
    """`wins`: prompt → who wins, one letter a rater: x, y, or t for a tie."""
    for number in range(raters):
        rater = world.rater(study, number).join()
        while rater.view.stage == "vote":
            letter = wins[rater.view.showings[0]["prompt"]][number]
            [(left,)] = world.studies.db.read(
                "SELECT left_is_x FROM assignments WHERE token = ?", [rater.token]
            )
            rater.vote("tie" if letter == "t" else "left" if (letter == "x") == left else "right")


WINS = {
    "prompt number 0": "xxxx",
    "prompt number 1": "xxyy",
    "prompt number 2": "yyyy",
    "prompt number 3": "xxxy",
    "prompt number 4": "tttx",  # one vote for a side says nothing
    "prompt number 5": "xyxt",
}


def test_the_most_clear_cut_and_the_most_split_pairs_are_chosen(world):
    study = world.study(prompts=6)
    vote(world, study, WINS)
    analysis, rows = world.studies.analysis(study.id), world.studies.rows(study.id)
    clear, split = choose_pairs(analysis, rows)
    assert [p.row["prompt"][-1] for p in clear[:2]] in (["0", "2"], ["2", "0"])
    assert [p.row["prompt"][-1] for p in clear[2:]] == ["3"]
    assert [p.row["prompt"][-1] for p in split] == ["1", "5"]
    assert not {p.row["pair"] for p in clear} & {p.row["pair"] for p in split}


def test_a_report_holds_both_pictures_and_the_rule(world):
    study = world.study(prompts=6)
    vote(world, study, WINS)
    world.studies.set_status(study.id, "closed")
    report = world.studies.export(study.id, "html").read_text()
    found = EMBEDDED.findall(report)
    assert len(found) == 2 * 5 and RULE.replace("'", "&#39;") in report
    pair = next(p for p in world.studies.store.pairs(study.id) if p.prompt == "prompt number 1")
    stored = world.studies.images.open(str(pair.image_x)).tobytes()
    shown = [Image.open(BytesIO(base64.b64decode(data))).convert("RGB").tobytes() for _, data in found]
    assert stored in shown
    assert "base-arm, 2 for it" in report and "4 to 0" in report
    assert to_html(world.studies.analysis(study.id)).count("<img") == 0


def test_large_pictures_are_made_smaller_and_lost_ones_left_out(world):
    study = world.study(prompts=6)
    vote(world, study, WINS)
    rows = world.studies.rows(study.id)
    large = world.studies.images.put(picture(77, 2 * SIDE))
    rows = [{**row, "image_x": large} for row in rows]
    lost = next(row for row in rows if row["prompt"] == "prompt number 1")
    world.studies.images.path(lost["image_y"]).unlink()
    made = make_examples(world.studies.analysis(study.id), rows, world.studies.images)
    assert [pair.prompt for pair in made.split] == ["prompt number 5"]
    [head, data] = made.split[0].sides[0].data.split(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(BytesIO(base64.b64decode(data))).size == (SIDE, SIDE)


def test_raters_that_are_left_out_do_not_choose_the_pairs(world):
    study = world.study(prompts=14)
    world.rater(study, 1).join().vote_all("left")  # flagged
    world.rater(study, 2).join().vote_all(seed=1)
    world.rater(study, 3).join().vote_all(seed=2)
    analysis = world.studies.analysis(study.id, Filter("", "", True))
    assert analysis.flagged
    clear, split = choose_pairs(analysis, world.studies.rows(study.id))
    assert all(pair.decided == 2 for pair in [*clear, *split])


def test_csv_for_spreadsheets_is_the_same_behind_a_mark(world):
    study = world.study(prompts=2)
    world.rater(study).join().vote_all()
    plain, marked = (world.studies.export(study.id, name) for name in ("csv", "csv-bom"))
    assert plain != marked and marked.read_bytes() == b"\xef\xbb\xbf" + plain.read_bytes()
