"""`import calibri`: pictures, searches and checkpoints through the public names."""

from __future__ import annotations

import numpy as np
import pytest

import calibri
from calibri.errors import ArtifactError, BackboneError, RenderError, SearchError
from tests import golden_cases as golden
from tests.small_search import SMALL
from tests.tiny import tiny_backbone, tiny_flux
from tests.tiny_families import random_calibration, tiny_sd3


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def pixels(image):
    return np.asarray(image).astype(int)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="'calibri' has no attribute 'paint'"):
        calibri.paint  # noqa: B018


def test_render_gives_pictures_in_order(backbone, tmp_path):
    prompts, seeds = ["a cube", "a ball"], [3, 4]
    pictures = calibri.render(backbone, prompts, seeds=seeds)
    requests = [calibri.RenderRequest(p, s, 2) for p, s in zip(prompts, seeds, strict=True)]
    expected = [rendered.image for rendered in calibri.Renderer(backbone).render(requests)]
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(pictures, expected, strict=True))
    one_seed = calibri.render(backbone, prompts, seeds=3)
    assert np.abs(pixels(one_seed[0]) - pixels(pictures[0])).max() <= 1
    assert len(calibri.render(backbone, "a cube", seeds=range(3), steps=1)) == 3


def test_render_takes_calibrations_files_and_folders(backbone, tmp_path):
    calibration = random_calibration(backbone, (0.6, "positive"), (0.5, "positive"))
    calibration.save(tmp_path / "it.json")
    base, mine, same = (
        calibri.render(backbone, "a cube", which)[0]
        for which in (None, calibration, str(tmp_path / "it.json"))
    )
    assert (pixels(mine) == pixels(same)).all()
    assert np.abs(pixels(mine) - pixels(base)).max() > 3
    tiny_flux(tmp_path / "tiny")
    (loaded,) = calibri.render(tmp_path / "tiny", "a cube", calibration)
    assert np.abs(pixels(loaded) - pixels(mine)).max() <= 1


def test_render_says_what_it_expected(backbone):
    with pytest.raises(RenderError, match="one seed for each of 2 prompts, got 3"):
        calibri.render(backbone, ["a", "b"], seeds=[1, 2, 3])
    with pytest.raises(BackboneError, match="got FluxPipeline"):
        calibri.render(backbone.pipeline, "a cube")
    with pytest.raises(RenderError, match="leave guidance out"):
        ensemble = random_calibration(backbone, (0.6, "positive"), (0.5, "positive"))
        calibri.render(backbone, "a cube", ensemble, guidance=2.0)


def test_a_search_finds_backbone_and_rewards_by_name(tmp_path, monkeypatch):
    from calibri.rewards import base

    class Redness:
        info = calibri.RewardInfo(
            name="redness", role="reward", version="1", description="red", range_hint=(0.0, 1.0)
        )

        def __init__(self, device):
            assert device == "cpu"

        def score(self, images, prompts):
            return np.array([pixels(image)[..., 0].mean() / 255 for image in images])

    monkeypatch.setattr(base, "_REGISTERED", {})
    calibri.register_reward("redness", Redness)
    tiny_flux(tmp_path / "tiny", doubles=1, singles=1)
    own = {"backbone": str(tmp_path / "tiny"), "rewards": (calibri.RewardTerm(name="redness"),), "steps": 1}
    config = calibri.SearchConfig.make(
        **{**SMALL, **own, "device": "cpu", "dtype": "float32", "validation_pairs": 0, "held_out_pairs": 2}
    )
    seen = []
    records = list(
        calibri.run_search(
            config,
            tmp_path / "run",
            budget=calibri.Budget(generations=2),
            progress=lambda done, total: seen.append(done),
        )
    )
    assert [record.kind for record in records] == ["session", "base", "generation", "generation", "result"]
    assert seen
    more = list(calibri.run_search(None, tmp_path / "run", budget=calibri.Budget(generations=3)))
    assert [record.kind for record in more] == ["session", "event", "generation", "result"]
    with pytest.raises(SearchError, match=r"config\.json"):
        list(calibri.run_search(None, tmp_path))


def test_a_checkpoint_gets_the_name_of_where_the_pipeline_came_from(backbone):
    from calibri.backbones.catalog import resolve

    model = golden.transformer("flux")
    source = golden.checkpoint("flux", "layer_k1")
    assert calibri.import_checkpoint(source, model).backbone == ""
    assert calibri.import_checkpoint(source, model, backbone="mine").backbone == "mine"
    pipeline = tiny_flux()
    pipeline.transformer = model
    pipeline.register_to_config(_name_or_path=resolve("FLUX.1-dev").source)
    assert calibri.import_checkpoint(source, pipeline).backbone == "FLUX.1-dev"
    rounded = calibri.import_checkpoint(source, model, round_to="bfloat16")
    assert rounded.members[0].scales != calibri.import_checkpoint(source, model).members[0].scales


def test_a_checkpoint_of_another_backbone_says_so(tmp_path):
    with pytest.raises(ArtifactError, match=r"layer_k1\.json: .*expected|layer_k1\.json: n_double"):
        calibri.import_checkpoint(golden.checkpoint("flux", "layer_k1"), tiny_flux(doubles=1))
    with pytest.raises(ArtifactError, match=r"layer_k1\.json"):
        calibri.import_checkpoint(golden.checkpoint("flux", "layer_k1"), tiny_sd3())
