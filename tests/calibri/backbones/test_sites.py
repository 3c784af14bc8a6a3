"""Where the scales go, by the transformer's class."""

import pytest
import torch

from calibri.backbones.catalog import resolve
from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.sites import sites_of, sites_of_config
from calibri.errors import BackboneError
from tests.tiny import flux_transformer


def counts(sites):
    return tuple(len(Layout.from_sites(sites, g).names) for g in GRANULARITIES)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("FLUX.1-dev", (57, 76, 114)),
        ("FLUX.1-schnell", (57, 76, 114)),
        ("tabletop", (12, 16, 24)),
        ("SD3-medium", (24, 48, 94)),
        ("SD3.5-medium", (24, 61, 107)),
        ("SD3.5-large", (38, 76, 150)),
        ("Qwen-Image", (60, 120, 238)),
        ("FLUX.2-dev", (56, 64, 80)),
        ("FLUX.2-klein-4B", (25, 30, 40)),
        ("FLUX.2-klein-base-9B", (32, 40, 56)),
        ("Z-Image-Turbo", (30, 60, 60)),
        ("Z-Image+refiners", (34, 68, 68)),
        ("Qwen-Image-2.1", (32, 64, 64)),
        ("Chroma1-HD", (57, 76, 114)),
        ("Sana-1.6B", (20, 40, 40)),
        ("Sana-1.6B+cross", (40, 60, 60)),
        ("Lumina-Image-2.0", (26, 52, 52)),
        ("Lumina-Image-2.0+refiners", (30, 60, 60)),
        ("AuraFlow-v0.3", (36, 72, 80)),
        ("PixArt-Sigma", (28, 56, 56)),
        ("PixArt-Sigma+cross", (56, 84, 84)),
        ("CogView4", (28, 56, 110)),
        ("HiDream-I1-Full", (48, 96, 128)),
        ("Krea-2-Turbo", (28, 56, 56)),
        ("Ideogram-4", (34, 68, 68)),
    ],
)
def test_the_catalog_counts_without_weights(name, expected):
    spec = resolve(name)
    assert counts(sites_of_config(*spec.transformer, spec.extras)) == expected


def test_flux_dev_has_these_sites_without_weights():
    """The real class with its default configuration, which is that of FLUX.1-dev, on no memory."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        model = FluxTransformer2DModel(guidance_embeds=True)
    assert counts(sites_of(model)) == (57, 76, 114)


def test_every_site_is_a_gate_of_the_width_of_the_model():
    model = flux_transformer()
    for site in sites_of(model):
        linear = model.get_submodule(site.fold.linear)
        assert linear.out_features == site.fold.count * model.inner_dim
        assert model.get_submodule(site.module).linear is linear


def test_names_say_block_stream_and_layer():
    for site in sites_of(flux_transformer()):
        if site.stream == "joint":
            assert site.name == f"{site.block}.{site.layer}"
        else:
            assert site.name == f"{site.block}.{site.stream}.{site.layer}"


@pytest.mark.slow
def test_a_compiled_transformer_has_the_same_sites():
    model = flux_transformer()
    assert sites_of(torch.compile(model, backend="eager")) == sites_of(model)


def test_an_unsupported_transformer_is_named():
    with pytest.raises(BackboneError, match=r"Linear is not supported.*FluxTransformer2DModel.*SD3"):
        sites_of(torch.nn.Linear(1, 1))


def test_a_transformer_with_a_block_taken_out_is_named():
    model = flux_transformer()
    del model.single_transformer_blocks[2]
    with pytest.raises(BackboneError, match=r"single_transformer_blocks\.2\.norm"):
        sites_of(model)
