"""The page Library without a browser: cards, gains, two vectors on one layout, files, pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calibri.calibration.artifact import Calibration, Member
from calibri.errors import ArtifactError, RenderError
from studio.calibrations import export_file
from studio.core import Core
from studio.library import view
from studio.library.form import BASE, import_files, make_arm, render_pair
from studio.library.page import Handlers, show_pair
from studio.library.thumbnails import PROMPT, SEED, Thumbnails
from studio.machine.render_cache import RenderCache
from studio.rendering.shots import shoot_cached

GAIN = {"mean": 0.4, "low": 0.3, "high": 0.5, "n": 128}


@pytest.fixture
def thumbnails(stocked: Core) -> Iterator[Thumbnails]:
    renders = RenderCache(stocked.settings.data / "renders")
    made = Thumbnails(stocked.host, stocked.calibrations, stocked.settings.data / "thumbnails", renders)
    yield made
    made.close()


def calibration(core: Core, granularity: str = "block", scale: float = 1.2, **more) -> Calibration:
    layout = core.host.wait_ready().layout(granularity)
    member = Member(scales=(scale,) + (1.0,) * (len(layout.names) - 1))
    values = {"title": "Own", "backbone": "tiny", "granularity": granularity, "names": layout.names}
    return Calibration(**{**values, "members": (member,), **more})


def test_a_thumbnail_is_rendered_once_and_kept(stocked: Core, thumbnails: Thumbnails) -> None:
    thumbs, bent = thumbnails, stocked.calibrations.get("studio/bent").calibration
    assert thumbs.find(bent) is None and "being rendered" in thumbs.explain_missing(bent)
    thumbs.render_missing()
    thumbs.wait()
    first = thumbs.find(bent)
    assert first.startswith(b"RIFF") and thumbs.revision == 2
    again = Thumbnails(stocked.host, stocked.calibrations, thumbs.folder, thumbs.renders)
    assert again.find(bent) == first
    again.render_missing()
    again.wait()
    assert again.revision == 0
    markup = Handlers(stocked, thumbnails).draw("studio/bent", BASE)[0]
    assert markup.count("data:image/webp;base64,") == 2 and "aria-pressed='true'" in markup


def test_drawing_the_cards_anew_takes_no_choice_back(stocked: Core, thumbnails: Thumbnails) -> None:
    """What a page picked after it had asked would be overwritten by the answer."""

    def values(beside: object, deleted: object) -> list[object]:
        _, others, trash = Handlers(stocked, thumbnails).redraw("", beside, deleted)
        return [field.constructor_args.get("value", "not sent") for field in (others, trash)]

    own = stocked.calibrations.duplicate("studio/bent")
    gone = stocked.calibrations.delete(own.id)
    assert values(BASE, None) == values("studio/bent", gone) == ["not sent", "not sent"]
    stocked.calibrations.restore(gone)
    assert values("studio/none", gone) == [BASE, None]


def test_what_cannot_be_painted_says_why(stocked: Core, thumbnails: Thumbnails) -> None:
    store, thumbs = stocked.calibrations, thumbnails
    wrong = store.save(calibration(stocked, names=tuple(f"triple.{i}" for i in range(5)), title="Wrong"))
    other = store.save(calibration(stocked, backbone="FLUX.1-dev", title="Other"))
    thumbs.render_missing()
    thumbs.wait()
    assert "triple.0" in thumbs.explain_missing(wrong.calibration)
    assert thumbs.explain_missing(other.calibration) == "FLUX.1-dev is not loaded"
    thumbs.render_missing()  # what failed is not tried for ever
    assert thumbs._missing() is None


def test_both_pictures_of_the_fixed_prompt_come_from_the_disk_the_second_time(stocked: Core) -> None:
    visitor = stocked.visitors.new_id()
    steps = stocked.host.wait_ready().spec.steps
    first = render_pair(stocked, visitor, "studio/bent", BASE, PROMPT, SEED, steps)
    again = render_pair(stocked, visitor, "studio/bent", "studio/pair", PROMPT, SEED, steps)
    assert [s.arm.kind for s in again] == ["calibrated", "ensemble"]
    assert np.array_equal(np.asarray(first[0].image), np.asarray(again[0].image))
    assert first[0].seconds == again[0].seconds and again[1].nfe == 2 * steps
    files = len(list((stocked.settings.data / "renders").rglob("*.png")))
    assert files == 3
    render_pair(stocked, visitor, "studio/bent", BASE, "another prompt", SEED, steps)
    assert len(list((stocked.settings.data / "renders").rglob("*.png"))) == files
    assert len(show_pair(first)) == 4


def test_a_damaged_file_is_rendered_again(stocked: Core) -> None:
    visitor, steps = stocked.visitors.new_id(), stocked.host.wait_ready().spec.steps
    first = render_pair(stocked, visitor, "studio/bent", BASE, PROMPT, SEED, steps)
    for path in (stocked.settings.data / "renders").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:50])
    again = render_pair(stocked, visitor, "studio/bent", BASE, PROMPT, SEED, steps)
    assert np.array_equal(np.asarray(first[0].image), np.asarray(again[0].image))


def test_another_backbones_calibration_is_a_sentence_and_not_a_picture(stocked: Core) -> None:
    entry = stocked.calibrations.save(calibration(stocked, backbone="FLUX.1-dev"))
    arm = make_arm(stocked, entry)
    assert arm.missing == "This one is for FLUX.1-dev, but tiny is loaded."
    steps = stocked.host.wait_ready().spec.steps
    shots = render_pair(stocked, stocked.visitors.new_id(), entry.id, BASE, PROMPT, SEED, steps)
    assert shots[0].image is None and shots[1].image is not None
    assert shoot_cached(stocked, []) == []


def test_what_is_gone_or_cannot_be_asked_is_a_sentence(stocked: Core) -> None:
    visitor = stocked.visitors.new_id()
    with pytest.raises(ArtifactError, match="Choose a calibration first"):
        render_pair(stocked, visitor, "", BASE, PROMPT, SEED, 2)
    with pytest.raises(ArtifactError, match="any more"):
        render_pair(stocked, visitor, "own/gone", BASE, PROMPT, SEED, 2)
    with pytest.raises(RenderError, match="prompt: expected"):
        render_pair(stocked, visitor, "studio/bent", BASE, " ", SEED, 2)
    assert "any more" in Handlers(stocked, None).describe("own/gone", BASE)[1]
    assert "Choose a calibration above" in Handlers(stocked, None).describe("", BASE)[1]
    title, about, figure, _ = Handlers(stocked, None).describe("studio/bent", "studio/pair")
    assert title == "Bent" and "Bent" in about and len(figure["data"]) == 2


def test_gains_are_read_and_nonsense_is_left_out(stocked: Core) -> None:
    found = {"gains": {"tiny-align": GAIN, "quality": GAIN, "x": {"mean": "much"}, "y": 3}, "how": "search"}
    entry = stocked.calibrations.save(calibration(stocked, found=found))
    assert view.describe_gains(entry.calibration) == "gain: align +0.40, quality +0.40"
    text = view.draw_details(entry)
    assert "[+0.30, +0.50]" in text and "128 held-out pairs" in text and "found by search" in text
    for nonsense in ({}, {"gains": []}, {"gains": None}, {"rewards": [1], "steps": True}):
        plain = stocked.calibrations.save(calibration(stocked, found=nonsense, scale=1.3))
        assert "not measured" in view.draw_details(plain)


def test_what_people_typed_is_escaped(stocked: Core) -> None:
    entry = stocked.calibrations.save(calibration(stocked, title="<img src=x onerror=alert(1)>"))
    for markup in (view.draw_cards([entry], None), view.draw_details(entry)):
        assert "<img src=x" not in markup and "&lt;img" in markup


def test_different_granularity_is_put_on_the_finer_layout_and_said(stocked: Core) -> None:
    coarse, fine = calibration(stocked, "block", 1.2), stocked.calibrations.get("studio/bent").calibration
    figure, words = view.draw_vectors(coarse, fine, stocked.host.backbone)
    assert figure["data"][0]["x"] == list(fine.names) == figure["data"][1]["x"]
    assert figure["data"][0]["y"][:3] == pytest.approx([0.2, 0.2, 0.0])
    assert "one scale for each block, drawn here at every layer" in words
    figure, words = view.draw_vectors(coarse, fine, None)
    assert len(figure["data"]) == 1 and "Load tiny to see both" in words


def test_different_backbones_have_no_common_chart(stocked: Core) -> None:
    other = calibration(stocked, backbone="FLUX.1-dev", title="Big")
    figure, words = view.draw_vectors(calibration(stocked), other, stocked.host.backbone)
    assert len(figure["data"]) == 1 and "there is no common chart" in words
    pair_of = stocked.calibrations.get("studio/pair").calibration
    assert "2 members; the chart shows its first positive one" in view.draw_vectors(pair_of, None, None)[1]


def test_files_come_in_and_a_bad_one_is_a_sentence(stocked: Core, tmp_path: Path) -> None:
    good = calibration(stocked, title="")
    texts = {
        "fine.json": good.to_json(),
        "broken.json": "{",
        "list.json": "[1]",
        "nan.json": good.to_json().replace("1.2", "NaN"),
        "far.json": good.to_json().replace("1.2", "1e9"),
        "more.json": calibration(stocked, scale=1.4, title="Second").to_json(),
    }
    paths = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        paths.append(str(tmp_path / name))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    came, words = import_files(stocked, [*paths, str(tmp_path / "binary.json")])
    assert [e.title for e in came] == ["fine", "Second"] and words.count("was not imported") == 5
    assert "Imported “fine”, “Second”." in words and "broken.json was not imported" in words
    assert "from -4 to 4, got 1e+09" in words and str(tmp_path) not in words
    name, text = export_file(came[1])
    assert name == "second.json" and json.loads(text)["title"] == "Second"
    with pytest.raises(ArtifactError, match="at most 50 files"):
        import_files(stocked, [paths[0]] * 51)
