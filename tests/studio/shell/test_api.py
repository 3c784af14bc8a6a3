"""The named endpoints, driven by the real gradio_client against a launched studio."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from studio.machine.host import ModelHost
from tests.studio.launched import PATIENCE, Launched, launched

NAMES = {"/render", "/compare", "/start_search", "/search_status", "/list_calibrations", "/get_calibration"}
PROMPTS = [f"a red cube {i}" for i in range(24)]


@pytest.fixture(scope="module")
def studio(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("api"), host) as made:
        yield made


@pytest.fixture(scope="module")
def client(studio: Launched, tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = str(tmp_path_factory.mktemp("downloads"))
    return Client(studio.url, verbose=False, download_files=folder, httpx_kwargs={"timeout": PATIENCE})


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_six_endpoints_are_public_typed_and_described(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == NAMES
    for name, endpoint in named.items():
        assert len(endpoint["description"]) > 30, name
        for parameter in endpoint["parameters"]:
            assert parameter["python_type"]["type"] != "Any", (name, parameter["label"])
    types = {p["parameter_name"]: p["python_type"]["type"] for p in named["/render"]["parameters"]}
    assert types == {
        "prompt": "str",
        "seed": "int",
        "steps": "int",
        "guidance": "float",
        "calibration": "str",
        "loras": "str",
    }


def test_render_returns_the_picture_and_its_facts(client: Client) -> None:
    path, facts = client.predict("a red cube", 3, 2, api_name="/render")
    assert pixels(path).shape == (32, 32, 3)
    assert facts["prompt"] == "a red cube" and facts["seed"] == 3 and facts["nfe"] == 2
    assert facts["unread"] == ""
    assert facts["backbone"] == "tiny" and facts["arm"] == "base" and facts["seconds"] > 0
    again, _ = client.predict("a red cube", 3, 2, api_name="/render")
    assert np.array_equal(pixels(path), pixels(again))


def test_a_seed_of_64_bits_is_not_rounded(client: Client) -> None:
    seed = 2**60 + 1  # a browser's number would be 2**60
    pictures = [client.predict("a red cube", each, 2, api_name="/render") for each in (seed, seed - 1)]
    assert [facts["seed"] for _, facts in pictures] == [seed, seed - 1]
    assert not np.array_equal(pixels(pictures[0][0]), pixels(pictures[1][0]))


def test_render_takes_an_id_or_json_and_guidance(client: Client, studio: Launched) -> None:
    base, _ = client.predict("a red cube", 3, 2, api_name="/render")
    by_id, facts = client.predict("a red cube", 3, 2, calibration="studio/bent", api_name="/render")
    text = studio.core.calibrations.get("studio/bent").calibration.to_json()
    by_json, _ = client.predict("a red cube", 3, 2, calibration=text, api_name="/render")
    assert facts["calibration"] == "Bent" and facts["arm"] == "calibrated"
    assert np.array_equal(pixels(by_id), pixels(by_json))
    assert not np.array_equal(pixels(base), pixels(by_id))
    _, guided = client.predict("a red cube", 3, 2, 2.5, api_name="/render")
    assert guided["nfe"] == 4 and guided["guidance"] == 2.5


def test_the_facts_say_what_the_encoder_did_not_read(client: Client) -> None:
    _, facts = client.predict("a red cube on a table", 3, 2, api_name="/render")
    assert facts["unread"] == "tiny reads 16 tokens: the end of the prompt, “a table”, is not read."


def test_compare_returns_three_pictures_with_their_facts(client: Client) -> None:
    *paths, facts = client.predict("a red cube", 3, 2, api_name="/compare")
    first, second, third = (pixels(path) for path in paths)
    assert not np.array_equal(first, second) and not np.array_equal(second, third)
    assert [facts[arm]["nfe"] for arm in ("base", "calibrated", "ensemble")] == [2, 2, 4]
    assert facts["ensemble"]["calibration"] == "Pair"


def test_compare_says_which_arm_is_missing(client: Client) -> None:
    base, calibrated, ensemble, facts = client.predict(
        "a red cube", 3, 2, granularity="gate", api_name="/compare"
    )
    assert base and calibrated is None and ensemble is None
    assert "No calibration" in facts["calibrated"]["missing"]


def test_calibrations_are_listed_and_read(client: Client, studio: Launched) -> None:
    listed = client.predict(api_name="/list_calibrations")
    assert [entry["id"] for entry in listed] == ["studio/bent", "studio/pair"]
    assert listed[1]["members"] == 2 and listed[0]["granularity"] == "layer" and listed[0]["built_in"]
    read = client.predict("studio/bent", api_name="/get_calibration")
    assert read == json.loads(studio.core.calibrations.get("studio/bent").calibration.to_json())


def test_a_search_is_started_followed_and_ends(client: Client, studio: Launched) -> None:
    run_id = client.predict(
        "block", ["tabletop-quality"], 1, 160, 5, "From a program", PROMPTS, api_name="/start_search"
    )
    status = client.predict(run_id, api_name="/search_status")
    assert status["id"] == run_id and status["title"] == "From a program" and status["images_limit"] == 160
    assert status["state"] in ("queued", "running")
    studio.studio.searches.stop(run_id)
    end = time.monotonic() + PATIENCE
    while status["state"] not in ("done", "failed"):
        assert time.monotonic() < end, status
        time.sleep(0.3)
        status = client.predict(run_id, api_name="/search_status")
    assert status["state"] == "done" and status["error"] == ""
    config = studio.studio.searches.store.get(run_id).config
    assert config.granularity == "block" and config.seed == 5 and config.steps == 1
    assert not set(config.prompts) & set(config.held_out_prompts)


WRONG = [
    ("/render", {"prompt": ""}, "prompt: expected"),
    ("/render", {"prompt": "x" * 4001}, "got 4001"),
    ("/render", {"prompt": "a", "seed": -1}, "seed: expected a whole number"),
    ("/render", {"prompt": "a", "steps": 0}, "steps: expected a whole number"),
    ("/render", {"prompt": "a", "guidance": 101}, "guidance: expected a number"),
    *[
        ("/render", {"prompt": "a", "seed": seed}, "seed: expected a whole number")
        for seed in (3.7, True, "7.0", "seven", 1e30, 2**63, [7])
    ],
    ("/compare", {"prompt": "a", "seed": 3.7}, "seed: expected a whole number"),
    ("/render", {"prompt": "a", "steps": 2.5}, "steps: expected a whole number"),
    ("/start_search", {"images": 60, "prompts": PROMPTS}, "images: expected at least"),
    ("/render", {"prompt": "a", "calibration": "own/none"}, "no saved calibration 'own/none'"),
    ("/render", {"prompt": "a", "calibration": "{"}, "not valid JSON"),
    ("/render", {"prompt": "a", "calibration": "{}"}, "expected the format"),
    ("/compare", {"prompt": "a", "granularity": "hair"}, "hair"),
    ("/get_calibration", {"calibration_id": "../../secret"}, "no saved calibration"),
    ("/search_status", {"run_id": "../x"}, "x"),
    ("/search_status", {"run_id": ""}, "run_id: expected"),
    ("/start_search", {"prompts": [7]}, "prompts: expected a list"),
    ("/start_search", {"prompts": ["a", "b"]}, "prompts: expected at least 10"),
    ("/start_search", {"rewards": []}, "rewards: expected at least one"),
    ("/start_search", {"rewards": ["beauty"], "prompts": PROMPTS}, "got 'beauty'"),
    ("/start_search", {"rewards": ["./evil.py:Evil"], "prompts": PROMPTS}, "got './evil.py:Evil'"),
    ("/start_search", {"rewards": ["evil.toml:2"], "prompts": PROMPTS}, "got 'evil.toml'"),
    ("/start_search", {"rewards": ["tabletop-quality:x"], "prompts": PROMPTS}, "name:weight"),
    ("/start_search", {"granularity": "hair", "prompts": PROMPTS}, "granularity"),
    ("/start_search", {"images": 0, "prompts": PROMPTS}, "images: expected"),
    ("/start_search", {"steps": 1.5, "prompts": PROMPTS}, "steps: expected"),
    ("/start_search", {"seed": "x", "prompts": PROMPTS}, "seed: expected"),
]


@pytest.mark.parametrize("name, values, words", WRONG)
def test_what_does_not_fit_is_a_sentence(
    client: Client, studio: Launched, name: str, values: dict, words: str
) -> None:
    before = len(studio.studio.searches.all())
    with pytest.raises(AppError) as raised:
        client.predict(**values, api_name=name)
    said = str(raised.value)
    assert words in said and "Traceback" not in said and "Something unexpected" not in said
    assert len(studio.studio.searches.all()) == before


def test_a_calibration_of_another_layout_is_refused_by_name(client: Client) -> None:
    other = {
        "format": "calibri-calibration/1",
        "title": "Foreign",
        "granularity": "layer",
        "names": ["elsewhere.0.attn"],
        "members": [{"scales": [1.1]}],
    }
    with pytest.raises(AppError, match=r"Foreign.*elsewhere\.0\.attn.*tiny"):
        client.predict("a", calibration=json.dumps(other), api_name="/render")


def test_a_studio_without_searches_says_so(host: ModelHost, tmp_path: Path) -> None:
    with launched(tmp_path, host, no_search=True) as studio:
        quiet = Client(studio.url, verbose=False, httpx_kwargs={"timeout": PATIENCE})
        for name, values in (("/start_search", {"prompts": PROMPTS}), ("/search_status", {"run_id": "x"})):
            with pytest.raises(AppError, match="Searches cannot run at this studio"):
                quiet.predict(**values, api_name=name)
