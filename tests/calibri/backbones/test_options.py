"""LoadOptions: what may be said of loading, how it is written, typed and kept."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields, replace

import pytest

from calibri.backbones.options import LoadOptions
from calibri.commands.loading import add_loading_arguments, given_options, read_options
from calibri.errors import BackboneError, SearchError
from calibri.search.config import SearchConfig
from studio.settings import read_settings

EVERY = LoadOptions(
    device="cuda:1",
    dtype="bfloat16",
    offload="group",
    quantisation="float8",
    transformer="weights.safetensors",
    vae_tiling=True,
    vae_slicing=True,
    attention="native",
    step_cache="pab:3",
    loras=("style.safetensors:0.7", "owner/name"),
    lora_blocks=True,
)
COMPILED = replace(EVERY, step_cache="", compile=True)  # what a search may have
TYPED = [
    "--device",
    "cuda:1",
    "--dtype",
    "bfloat16",
    "--offload",
    "group",
    "--quantisation",
    "float8",
    "--transformer",
    "weights.safetensors",
    "--vae-tiling",
    "--vae-slicing",
    "--attention",
    "native",
    "--step-cache",
    "pab:3",
    "--lora",
    "style.safetensors:0.7",
    "--lora",
    "owner/name",
    "--lora-blocks",
]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_loading_arguments(parser)
    return parser.parse_args(arguments)


def test_only_what_differs_from_the_defaults_is_written():
    assert LoadOptions().to_json() == {}
    assert LoadOptions(offload="model", loras=("a:1",)).to_json() == {"offload": "model", "loras": ["a:1"]}


def test_written_options_come_back():
    assert {*EVERY.to_json(), *COMPILED.to_json()} == {field.name for field in fields(LoadOptions)}
    assert LoadOptions.from_json(json.loads(json.dumps(EVERY.to_json()))) == EVERY
    assert LoadOptions.from_json({}) == LoadOptions()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"colour": 1}, "expected some of device, dtype, .*, got 'colour'"),
        ({"offload": "disk"}, "offload 'disk': expected model, sequential or group"),
        ({"quantisation": "2bit"}, "quantisation '2bit': expected .*8bit"),
        ({"dtype": "int8"}, "dtype 'int8': expected auto, float32"),
        ({"device": "my gpu"}, "device 'my gpu': expected auto, cpu, cuda"),
        ({"attention": "no such"}, "attention 'no such': expected"),
        ({"compile": "yes"}, "compile: expected true or false, got 'yes'"),
        ({"dtype": 16}, "dtype: expected text, got 16"),
        ({"loras": "style"}, "loras: expected a list of texts, got 'style'"),
        ({"loras": ["a\0b"]}, "loras: expected at most"),
        ({"loras": ["a"] * 33}, "loras: expected at most 32, got 33"),
    ],
)
def test_what_cannot_be_is_a_sentence(values, words):
    with pytest.raises(BackboneError, match=words):
        LoadOptions.from_json(values)


def test_words_tell_what_differs_and_name_no_folder():
    assert LoadOptions().words == ""
    assert "float8" in EVERY.words and "group offload" in EVERY.words and "2 LoRAs" in EVERY.words
    assert "style" not in EVERY.words and "weights" not in EVERY.words


def test_what_travels_names_no_folder():
    told = replace(
        EVERY, transformer="/srv/flux-Q4.gguf", loras=("~/my/ink.safetensors:0.5", "owner/name:2")
    ).tell()
    assert told["transformer"] == "flux-Q4.gguf"
    assert told["loras"] == ["ink.safetensors:0.5", "owner/name:2"]


# command lines


def test_commands_read_every_option():
    assert read_options(parse(*TYPED)) == EVERY
    assert read_options(parse("--compile")) == LoadOptions(compile=True)
    assert read_options(parse()) == LoadOptions()
    assert given_options(parse()) == {}


def test_a_command_may_take_some_of_them():
    parser = argparse.ArgumentParser()
    add_loading_arguments(parser, only=("device",))
    assert read_options(parser.parse_args(["--device", "cpu"])) == LoadOptions(device="cpu")
    with pytest.raises(SystemExit):
        parser.parse_args(["--dtype", "float32"])


def test_the_studio_reads_every_option_from_flags_or_the_environment():
    assert read_settings(TYPED, {}).load_options == EVERY
    variables = {
        "CALIBRI_DEVICE": "cuda:1",
        "CALIBRI_DTYPE": "bfloat16",
        "CALIBRI_OFFLOAD": "group",
        "CALIBRI_QUANTISATION": "float8",
        "CALIBRI_TRANSFORMER": "weights.safetensors",
        "CALIBRI_VAE_TILING": "1",
        "CALIBRI_VAE_SLICING": "1",
        "CALIBRI_ATTENTION": "native",
        "CALIBRI_STEP_CACHE": "pab:3",
        "CALIBRI_LORA": "style.safetensors:0.7, owner/name",
        "CALIBRI_LORA_BLOCKS": "1",
    }
    assert read_settings([], variables).load_options == EVERY
    assert read_settings([], {}).load_options == LoadOptions()
    assert read_settings([], {"CALIBRI_COMPILE": "1"}).load_options == LoadOptions(compile=True)


def test_the_studio_refuses_what_cannot_be_with_a_sentence(capsys):
    with pytest.raises(SystemExit):
        read_settings(["--offload", "disk"], {})
    assert "offload 'disk': expected model, sequential or group" in capsys.readouterr().err


# searches


def make_config(**values) -> SearchConfig:
    return SearchConfig.make(rewards=({"name": "tabletop-quality"},), prompts=("a red cube",), **values)


def test_a_search_keeps_how_its_backbone_is_loaded():
    config = make_config(loading=COMPILED)
    assert (config.device, config.dtype, config.compile) == ("cuda:1", "bfloat16", True)
    assert config.load_options == COMPILED
    assert SearchConfig.from_json(config.to_json()) == config
    assert set(json.loads(config.to_json())["loading"]) == set(COMPILED.to_json()) - {
        "device",
        "dtype",
        "compile",
    }


def test_what_is_said_by_name_comes_before_what_is_said_together():
    assert make_config(loading=COMPILED, device="cpu").load_options.device == "cpu"


def test_a_studio_keeps_how_its_backbone_was_loaded_but_for_the_device():
    config = make_config().loaded_as(COMPILED)
    assert config.load_options == replace(COMPILED, device="auto")
    assert SearchConfig.from_json(config.to_json()) == config
    with pytest.raises(SearchError, match="a search renders without a step cache"):
        make_config().loaded_as(EVERY)


def test_a_config_without_loading_has_the_text_and_hash_it_always_had():
    values = json.loads(make_config(device="cpu").to_json())
    assert "loading" not in values and values["device"] == "cpu"
    config = SearchConfig.from_json(json.dumps(values))
    assert config.load_options == LoadOptions(device="cpu")
    assert config.hash == make_config(device="cpu").hash


def test_a_search_refuses_options_that_cannot_be():
    with pytest.raises(SearchError, match="offload 'disk'"):
        make_config(loading={"offload": "disk"})
