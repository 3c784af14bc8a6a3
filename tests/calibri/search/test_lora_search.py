"""Searches on a base with LoRAs: what is searched, what is recorded, and what makes another search of it."""

import json

import pytest

from calibri.backbones.options import LoadOptions
from calibri.calibration.artifact import Calibration
from calibri.calibration.lora_file import save_lora
from calibri.errors import JournalError, SearchError
from calibri.sampling.request import RenderRequest
from calibri.search.config import Budget
from calibri.search.distributed import packed, unpacked
from calibri.search.hub_jobs import check_portable
from calibri.search.journal import TAIL
from calibri.search.records import GenerationRecord
from calibri.search.run import run_search
from tests.small_search import Redness, make_small
from tests.tiny import tiny_flux
from tests.tiny_lora import fresh, write_lora


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    path = tmp_path_factory.mktemp("lora") / "ink.safetensors"
    return str(write_lora(path, tiny_flux().transformer, lambda name: "blocks" in name))


def search(backbone, folder, budget=2, **options):
    config = make_small(granularity="block", backbone="tiny", **options)
    records = run_search(
        config, folder, backbone=backbone, rewards={"redness": Redness()}, budget=Budget(generations=budget)
    )
    return list(records)


def test_strengths_in_blocks_are_searched_and_come_back_as_a_file(lora, tmp_path):
    backbone = fresh("flux", f"{lora}:0.8", blocks=True)
    records = search(backbone, tmp_path / "run", bounds=(-1.0, 2.0))
    names = backbone.layout("block").names
    generations = [record for record in records if isinstance(record, GenerationRecord)]
    assert len(generations) == 2
    assert generations[0].candidate_array().shape[1] == len(names) == 5 + 5
    assert (generations[0].candidate_array()[0] == 1).all() and generations[0].scores[0] == 0  # the base
    found = Calibration.load(tmp_path / "run" / TAIL)
    assert found.names == names and any(name.startswith("lora.ink.") for name in names)
    [recorded] = found.found["loras"]
    assert (recorded["file"], recorded["strength"]) == ("ink.safetensors", 0.8)
    assert found.found["backbone_fingerprint"] == backbone.fingerprint
    assert str(tmp_path) not in json.dumps(found.found)
    assert save_lora(backbone, found, tmp_path / "new.safetensors") > 0


def test_a_run_is_not_gone_on_with_under_another_strength(lora, tmp_path):
    search(fresh("flux", f"{lora}:0.8"), tmp_path / "run", budget=1)
    with pytest.raises(JournalError, match="made with another backbone"):
        search(fresh("flux", f"{lora}:0.7"), tmp_path / "run", budget=2)
    assert search(fresh("flux", f"{lora}:0.8"), tmp_path / "run", budget=2)


def test_requests_keep_their_loras_on_the_way_to_a_worker(lora):
    backbone = fresh("flux", lora, blocks=True)
    for loras in (None, (), (("ink", 0.5),)):
        request = RenderRequest("red", 1, 2, loras=loras)
        assert unpacked(packed(request), backbone) == request


def test_a_job_of_the_hub_cannot_read_a_file_of_this_machine(lora):
    def config(text):
        return make_small(loading=LoadOptions(loras=(text,)))

    with pytest.raises(SearchError, match=r"source of LoRA 1: expected a hub id, got a file or folder"):
        check_portable(config(f"{lora}:0.5"))
    check_portable(config("owner/name:0.5"))
