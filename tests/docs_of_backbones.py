"""The tables of docs/backbones.md."""

from __future__ import annotations

from collections.abc import Sequence

import diffusers

from calibri.backbones.catalog import CATALOG, known_backbones
from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.quantisations import QUANTISATIONS
from calibri.backbones.sites import (
    FAMILIES,
    Argument,
    Chunk,
    Output,
    Rows,
    Site,
    TupleItem,
    Whole,
    every_site,
    family_of,
    sites_of_config,
)
from calibri.backbones.step_cache import CACHES
from calibri.commands.loading import MEANINGS
from tests.docs_table import Table, code


def counts(sites: Sequence[Site]) -> list[str]:
    return [str(len(Layout.from_sites(sites, g))) for g in GRANULARITIES]


def loading() -> Table:
    """Ways to load a backbone in less memory or time: option, what it does, what it needs."""
    quantised = [
        (
            code(f"--quantisation {name}"),
            f"the transformer's weights in {each.bits} bits: {each.words}",
            ", ".join([*([] if each.cpu else ["CUDA"]), *([code(each.package)] if each.package else [])]),
        )
        for name, each in QUANTISATIONS.items()
    ]
    rows = [
        (code("--dtype bfloat16"), "half the memory of float32; usual on CUDA", ""),
        (code("--offload model"), "one part on the GPU at a time", "CUDA"),
        (code("--offload group"), "one block on the GPU at a time, the next one on its way", "CUDA"),
        (code("--offload sequential"), "one layer on the GPU at a time: the least memory, and slow", "CUDA"),
        *quantised,
        (code("--transformer FILE.gguf"), f"{MEANINGS['transformer']}", f"{code('gguf')} for GGUF"),
        (code("--vae-tiling"), MEANINGS["vae_tiling"], "a VAE that can"),
        (code("--vae-slicing"), MEANINGS["vae_slicing"], "a VAE that can"),
        (code("--attention BACKEND"), MEANINGS["attention"], "what the backend needs"),
        (code("--compile"), MEANINGS["compile"], "a family with repeated blocks; on a CPU g++"),
        *(
            (
                code(f"--step-cache {name}"),
                "one step of two computed in full; no searches",
                "a family with it",
            )
            for name in CACHES
        ),
    ]
    return ("option", "what it does", "needs"), rows


def backbones() -> Table:
    rows = []
    for name in known_backbones():
        spec = CATALOG[name]
        assert spec.transformer is not None
        guidance = [f"{spec.cfg:g}"] if spec.cfg else []
        guidance += [f"{spec.guidance:g} embedded"] if spec.guidance else []
        source = "in `assets/tabletop`" if spec.is_local else code(spec.source)
        licence = (
            f"{spec.licence} ({'gated' if spec.gated else 'open'})" if spec.licence else "this project's"
        )
        numbers = counts(sites_of_config(*spec.transformer))
        shown = (str(spec.steps), f"{spec.width} × {spec.height}", ", ".join(guidance) or "none", licence)
        rows.append((name, source, *numbers, *shown))
    return ("name", "weights", *GRANULARITIES, "steps", "pixels", "guidance", "licence"), rows


def further_sites() -> Table:
    """What `+cross` and `+refiners` add."""
    rows = []
    for name in known_backbones():
        spec = CATALOG[name]
        assert spec.transformer is not None
        for extra in dict.fromkeys(site.extra for site in every_site(*spec.transformer) if site.extra):
            numbers = counts(sites_of_config(*spec.transformer, (extra,)))
            blocks = dict.fromkeys(
                site.block.split(".")[0] for site in every_site(*spec.transformer) if site.extra == extra
            )
            rows.append((code(f"{name}+{extra}"), ", ".join(map(code, blocks)), *numbers))
    return ("backbone", "further blocks", *GRANULARITIES), rows


def families() -> Table:
    rows = []
    for name in sorted(FAMILIES, key=str.lower):
        specs = [s for s in CATALOG.values() if s.transformer and s.transformer[0] == name]
        sites = [site for s in specs if s.transformer for site in sites_of_config(*s.transformer)]
        sites = sites or list(sites_of_config(name, {"num_layers": 5, "num_single_layers": 28}))  # FLUX.3
        layers = dict.fromkeys(site.layer for site in sites)
        streams = dict.fromkeys(site.stream for site in sites)
        named = ", ".join(s.name for s in specs) or "none"
        pipeline = ", ".join(map(code, family_of(name).PIPELINES)) or "modular only: beside a pipeline"
        words = (", ".join(layers), ", ".join(streams), hooked(sites), folded(sites), named)
        rows.append((code(name), pipeline, *words))
    head = ("transformer", "renders with", "layers", "streams", "multiplied at", "folds into", "by name")
    return head, rows


def hooked(sites: Sequence[Site]) -> str:
    words = {
        TupleItem: "gates that a norm returns",
        Chunk: "gates that a modulation returns",
        Argument: "gates that a block is given",
        Output: "what the branch adds",
    }
    return ", ".join(dict.fromkeys(words[type(site.op)] for site in sites))


def folded(sites: Sequence[Site]) -> str:
    words = {Rows: "rows of the modulation", Whole: "the branch's last weights", type(None): "nothing"}
    kinds = dict.fromkeys(type(site.fold) for site in sites)
    if type(None) in kinds:
        return "refused: blocks of both streams share weights"
    return ", ".join(words[kind] for kind in kinds)


#: Beginning of a name in the catalog → the tiny pipeline in tests/tiny_pipelines.py that stands for it.
STANDS_FOR = {
    "tabletop": "flux",
    "FLUX.1": "flux",
    "SD3": "sd3",
    "Qwen-Image": "qwen",
    "Qwen-Image-2.1": "qwen-2.1",
    "FLUX.2-dev": "flux2-dev",
    "FLUX.2-klein": "flux2-klein",
    "Z-Image": "z-image",
    "Chroma1": "chroma",
    "Sana": "sana",
    "Lumina": "lumina2",
    "AuraFlow": "auraflow",
    "PixArt-alpha": "pixart-alpha",
    "PixArt-Sigma": "pixart-sigma",
    "CogView4": "cogview4",
    "HiDream": "hidream",
    "Krea-2": "krea2",
    "Ideogram": "ideogram4",
}


def tiny_of(name: str) -> str:
    """The tiny pipeline that stands for a backbone of the catalog."""
    return STANDS_FOR[max((each for each in STANDS_FOR if name.startswith(each)), key=len)]


def entries() -> Table:
    """For each backbone of the catalog: its class, on what it was verified, what diffusers offers for it."""
    rows = []
    for name in known_backbones():
        transformer = CATALOG[name].transformer
        assert transformer is not None
        class_name, sites = transformer[0], sites_of_config(*transformer)
        pipeline = family_of(class_name).PIPELINES[0]
        compiled = "yes" if getattr(diffusers, class_name)._repeated_blocks else "no blocks named"
        rows.append(
            (name, code(class_name), tiny_of(name), folded(sites), offload(class_name, pipeline), compiled)
        )
    head = ("name", "transformer", "verified on", "folds into", "offload", "compiled blocks")
    return head, rows


def offload(class_name: str, pipeline: str) -> str:
    """The kinds of offload that diffusers has for a transformer in its pipeline."""
    stock = getattr(diffusers, pipeline)
    ways = []
    if "transformer" in (stock.model_cpu_offload_seq or "").split("->"):
        ways.append("model")
    if "transformer" not in stock._exclude_from_cpu_offload:
        ways.append("sequential")
    if getattr(diffusers, class_name)._supports_group_offloading:
        ways.append("group")
    return ", ".join(ways) or "none"


def verified() -> Table:
    """The tiny pipelines of tests/calibri/backbones/test_families.py."""
    from tests.tiny_pipelines import TINY

    rows = []
    for name, tiny in TINY.items():
        more = " / ".join(map(str, tiny.extras)) if tiny.extras else "none"
        if tiny.call is not None:
            painted = guided = "no pipeline class"
        else:
            painted = "equal" if tiny.needs is None else f"equal; loaded where {tiny.needs} is installed"
            guided = "equal" if tiny.guided else "it has none"
        folds = "equal" if tiny.folds else "equal where possible, refused elsewhere"
        rows.append((name, " / ".join(map(str, tiny.counts)), more, folds, painted, guided))
    head = ("tiny pipeline", "block / layer / gate", "with further sites", "fold and hooks")
    return (*head, "our picture and the pipeline's", "guidance and the pipeline's own"), rows
