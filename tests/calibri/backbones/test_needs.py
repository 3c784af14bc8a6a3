"""What a backbone needs: weights to the byte, activations within a factor, a sensible mode for each card."""

import json
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from calibri.backbones.advice import advise
from calibri.backbones.catalog import resolve
from calibri.backbones.known_sizes import KNOWN
from calibri.backbones.loading import load_backbone
from calibri.backbones.machine import Machine, parse_memory
from calibri.backbones.needs import (
    CONTEXT,
    Ask,
    find_need,
    list_modes,
    suggest,
    weigh_decoding,
    weigh_part,
    weigh_stream,
)
from calibri.backbones.options import LoadOptions
from calibri.backbones.sizes import Part, Sizes, measure_part, measure_stream, read_folder
from calibri.errors import BackboneError
from tests.tiny import fill, flux_transformer, tiny_flux
from tests.tiny_families import tiny_qwen, tiny_sd3
from tests.tiny_parts import vae_kl

FACTOR = 2.0  # within which activations are to be estimated
GB = 2**30
TINY = {"flux": tiny_flux, "sd3": tiny_sd3, "qwen": tiny_qwen}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny pipeline of each family, saved."""
    made = {}
    for name, make in TINY.items():
        made[name] = tmp_path_factory.mktemp(name)
        make().save_pretrained(made[name])
    return made


def held(module):
    """Bytes of what a module keeps, each tensor once."""
    state = {t.data_ptr() or id(t): t for t in module.state_dict(keep_vars=True).values()}
    return sum(t.numel() * t.element_size() for t in state.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TINY)
def test_weights_are_counted_to_the_byte(folders, name, dtype):
    sizes = read_folder(folders[name])
    backbone = load_backbone(folders[name], device="cpu", dtype=dtype)
    parts = {
        key: each for key, each in backbone.pipeline.components.items() if isinstance(each, torch.nn.Module)
    }
    assert {part.name: weigh_part(part, dtype) for part in sizes.parts} == {
        key: held(each) for key, each in parts.items()
    }


def test_few_bits_shrink_the_transformers_matrices_alone(folders):
    sizes = read_folder(folders["flux"])
    ask = Ask(32, 32)
    whole, eight, four = (
        find_need(sizes, LoadOptions(dtype="bfloat16", quantisation=q), ask).weights
        for q in ("", "8bit", "4bit")
    )
    matrix = sizes.transformer.matrix
    assert 0 < matrix < sizes.transformer.values
    assert whole - eight == matrix and whole - four == pytest.approx(matrix * (2 - 0.5625), abs=1)


class Peak(TorchDispatchMode):
    """The most bytes of results that lived at once."""

    def __init__(self):
        super().__init__()
        self.live = self.most = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, torch.Tensor):
                storage = each.untyped_storage()
                if storage not in self.known:
                    self.known.add(storage)
                    self.live += storage.nbytes()
                    self.most = max(self.most, self.live)
                    weakref.finalize(storage, self.free, storage.nbytes())
        return out

    def free(self, size):
        self.live -= size


def measured(module, **more):
    header = {name: ("F32", tuple(t.shape)) for name, t in module.state_dict().items()}
    return measure_stream(header, (measure_part("transformer", header),), **more)


def test_a_forward_takes_about_as_much_as_estimated():
    transformer = flux_transformer(2, 2, heads=8)
    sizes = measured(transformer)
    assert (sizes.width, sizes.hidden, sizes.blocks) == (128, 512, 4)
    ask = Ask(32 * 16, 32 * 16, batch=2, text=16)
    call = {
        "hidden_states": torch.zeros(2, 1024, 16),
        "encoder_hidden_states": torch.zeros(2, 16, 32),
        "pooled_projections": torch.zeros(2, 24),
        "timestep": torch.zeros(2),
        "img_ids": torch.zeros(1024, 3),
        "txt_ids": torch.zeros(16, 3),
    }
    with torch.inference_mode(False), torch.no_grad(), Peak() as peak:
        transformer(**call)
    assert ask.tokens(sizes) == 1040
    assert 1 / FACTOR < peak.most / weigh_stream(sizes, ask, "float32") < FACTOR


def test_decoding_takes_about_as_much_as_estimated():
    vae = vae_kl()
    fill(vae, 0)
    sizes = Sizes((Part("vae", 0, 0, 0, 0, 0),), 1, 1, 1, 1, token=4, channels=8)
    with torch.no_grad(), Peak() as peak:
        vae.decode(torch.zeros(1, 4, 128, 128))
    assert 1 / FACTOR < peak.most / weigh_decoding(sizes, Ask(256, 256), "float32") < FACTOR


def test_a_missing_shard_is_named(tmp_path):
    tiny_flux().save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads(
        (tmp_path / "transformer/diffusion_pytorch_model.safetensors.index.json").read_text(encoding="utf-8")
    )
    assert read_folder(tmp_path).transformer.values > 0
    last = sorted(set(index["weight_map"].values()))[-1]
    (tmp_path / "transformer" / last).unlink()
    with pytest.raises(BackboneError, match=f"transformer: its index names {last}, which is not there"):
        read_folder(tmp_path)


def test_a_file_that_is_cut_off_is_named(tmp_path):
    tiny_flux().save_pretrained(tmp_path)
    path = tmp_path / "transformer/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        BackboneError, match=r"pytorch_model.safetensors cannot be read: it is cut off: expected"
    ):
        read_folder(tmp_path)
    path.write_bytes(b"\x10")
    with pytest.raises(BackboneError, match="its header is cut off"):
        read_folder(tmp_path)
    path.unlink()
    with pytest.raises(BackboneError, match="transformer: expected its weights as safetensors"):
        read_folder(tmp_path)


CARDS = [
    ("FLUX.1-dev", 12, 64, "bfloat16, group offload"),
    ("FLUX.1-dev", 12, 24, "bfloat16, model offload, 4bit"),
    ("FLUX.1-dev", 16, 64, "bfloat16, model offload, 8bit"),
    ("FLUX.1-dev", 24, 64, "bfloat16, model offload, 8bit"),
    ("FLUX.1-dev", 80, 64, "bfloat16"),
    ("SD3.5-large", 12, 32, "bfloat16, model offload, 8bit"),
    ("SD3.5-large", 16, 32, "bfloat16, model offload, 8bit"),
    ("SD3.5-large", 24, 32, "bfloat16, model offload"),
    ("SD3.5-large", 80, 64, "bfloat16"),
    ("Qwen-Image", 12, 64, "bfloat16, group offload"),
    ("Qwen-Image", 16, 64, "bfloat16, group offload"),
    ("Qwen-Image", 24, 64, "bfloat16, model offload, 8bit"),
    ("Qwen-Image", 80, 64, "bfloat16"),
]


@pytest.mark.parametrize("name, card, main, words", CARDS)
def test_each_card_gets_a_sensible_mode(name, card, main, words):
    found = suggest(KNOWN[name], Ask.of(resolve(name)), card * GB, main * GB)
    assert found.need is not None
    assert sorted(found.need.options.words.split(", ")) == sorted(words.split(", "))
    assert found.need.device <= card * GB


def test_what_fits_nowhere_says_what_the_least_takes():
    found = suggest(KNOWN["Qwen-Image"], Ask.of(resolve("Qwen-Image")), 12 * GB, 16 * GB, name="Qwen-Image")
    assert found.need is None
    assert found.words.startswith(
        "Qwen-Image does not fit into a card of 12 GB and 17 GB beside it: the smallest"
    )


def test_without_a_card_main_memory_decides():
    flux, ask = KNOWN["FLUX.1-dev"], Ask.of(resolve("FLUX.1-dev"))
    assert suggest(flux, ask, None, 128 * GB).need.options.dtype == "float32"
    assert suggest(flux, ask, None, 48 * GB).need.options.dtype == "bfloat16"
    assert suggest(flux, ask, None, 16 * GB).need is None


def test_more_pictures_and_offload_change_what_is_needed_as_they_must():
    flux = KNOWN["FLUX.1-dev"]
    one, four = (Ask(1024, 1024, batch=b) for b in (1, 4))
    for options in list_modes():
        small, large = (find_need(flux, options, ask) for ask in (one, four))
        assert small.device <= large.device and small.weights == large.weights
        assert small.activations < large.activations
        assert small.device > CONTEXT
    taken = [
        find_need(flux, LoadOptions(dtype="bfloat16", offload=o), one).device
        for o in ("", "model", "group", "sequential")
    ]
    assert taken == sorted(taken, reverse=True)


@pytest.mark.parametrize(
    "text, size", [("12GB", 12 * GB), ("12", 12 * GB), ("1.5 gib", 1.5 * GB), ("512MB", 2**29)]
)
def test_memory_is_read_as_cards_are_sold(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "a lot", "-1GB", "0GB", "12TB", "9" * 20])
def test_other_memory_is_refused(text):
    with pytest.raises(BackboneError, match="memory: expected such as 12GB"):
        parse_memory(text)


def test_a_gated_backbone_without_a_token_says_what_to_do():
    machine = Machine("CPU", 2, 64 * GB, 0, packages={"bitsandbytes": ""})
    advice = advise(resolve("FLUX.1-dev"), machine, card=16 * GB)
    assert advice.notes == (
        "black-forest-labs/FLUX.1-dev is gated: accept its licence at "
        "https://huggingface.co/black-forest-labs/FLUX.1-dev, then sign in on this machine with "
        "`hf auth login` (or set HF_TOKEN)",
        "8bit and 4bit need bitsandbytes: pip install bitsandbytes",
    )
    signed_in = Machine("CPU", 2, 64 * GB, 0, packages={"bitsandbytes": "0.49"}, token=True)
    assert advise(resolve("FLUX.1-dev"), signed_in, card=16 * GB).notes == ()


@pytest.mark.parametrize("name", ["FLUX.1-dev", "SD3.5-large", "Qwen-Image"])
def test_the_table_is_what_the_configurations_say(name):
    from tests.sizes_table import sizes_of

    found = sizes_of(name)
    assert found.parts == KNOWN[name].parts
    assert (found.width, found.hidden, found.blocks, found.work, found.token, found.channels) == (
        KNOWN[name].width,
        KNOWN[name].hidden,
        KNOWN[name].blocks,
        KNOWN[name].work,
        KNOWN[name].token,
        KNOWN[name].channels,
    )
