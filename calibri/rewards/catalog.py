"""Named rewards: where each comes from and what it needs. Light: nothing here loads a model."""

from __future__ import annotations

import importlib.util
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["reward", "judge"]
Kind = Literal["bt", "probability"]
DTYPES = ("float32", "bfloat16", "float16")
BITS = ("8bit", "4bit")  # of some, on CUDA, by bitsandbytes


class RewardSpec(BaseModel):
    """What is known of a reward before it is loaded.

    `place`: `module:Class`, called with (device, source, dtype). `source`: hub id; empty for what comes
    with the project or with its packages. `packages`: what it needs beyond the project's own requirements,
    by import name. `parameters`: of the published weights. `memory`: dtype → bytes for weights and one
    picture, at least. `kind`: `bt`, whose difference, divided by a temperature, is the log odds that people
    prefer one picture to another, or a `probability` in [0, 1]. `temperature`: in the reward's units, None
    where nothing says it; `temperature_source`: why it is so. `large`: bfloat16 on CUDA unless a dtype is
    given. `backbone`: the only one that it fits. `offered`: whether pages offer it; others need what is said
    on a command line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    place: str
    summary: str
    role: Role = "reward"
    kind: Kind = "bt"
    temperature: float | None = Field(default=None, gt=0)
    temperature_source: str = ""
    licence: str
    source: str = ""
    packages: tuple[str, ...] = ()
    parameters: int = Field(default=0, ge=0)
    memory: dict[str, int] = {}
    range_hint: tuple[float, float]
    large: bool = False
    backbone: str | None = None
    offered: bool = True

    def fits(self, backbone: str) -> bool:
        """Whether pictures of this backbone are what the reward was made for."""
        return self.backbone is None or self.backbone == backbone

    @property
    def download(self) -> int:
        """About how many bytes the published weights are: large ones lie there with 2 bytes a number."""
        return self.parameters * (2 if self.large else 4) if self.source else 0

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that it needs and that are not installed."""
        return tuple(name for name in self.packages if importlib.util.find_spec(name) is None)


def _needs(parameters: int, *dtypes: str) -> dict[str, int]:
    """dtype → bytes: the weights, and a tenth of them for one picture under way."""
    width = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.1, "4bit": 0.6}
    return {dtype: round(parameters * width[dtype] * 1.1) for dtype in dtypes or ("float32", "bfloat16")}


# Why a reward's differences are log odds, or why nobody knows.
_CONTRASTED = "trained to tell, by softmax of the scores, which picture belongs to the prompt"
_PAIRED = "trained by the sigmoid of the difference of two pictures' scores"
_PICKED = "trained by softmax of two pictures' scores, logit scale × cosine"
_RATED = "a rating from a regression: nothing says how far apart the odds are"
_PROBABLE = "a probability needs none"


def _tabletop(name: str, place: str, summary: str, low: float, high: float, **fields: object) -> RewardSpec:
    return RewardSpec.model_validate(
        {
            "name": f"tabletop-{name}",
            "place": f"calibri.rewards.{place}",
            "summary": summary,
            "range_hint": (low, high),
            "licence": "Apache-2.0",
            "backbone": "tabletop",
            **fields,
        }
    )


_CLIP_H = 986_109_441
_CLIP_L = 427_616_513
_ONE_ALIGN = 8_197_859_328
_CROSS = 118_505_472
IMAGEREWARD_SPREAD = 1.0333394966054072  # of its authors' pictures, which its scores are divided by

CATALOG: dict[str, RewardSpec] = {
    spec.name: spec
    for spec in (
        _tabletop(
            "align",
            "tabletop_align:AlignReward",
            "how well picture and prompt belong together; logit scale × cosine, as PickScore",
            -20.0,
            40.0,
            temperature=1.0,
            temperature_source=_CONTRASTED,
        ),
        _tabletop(
            "quality",
            "tabletop_preference:QualityReward",
            "how clear and whole a picture looks; trained on pairs whose better side is known",
            -6.0,
            6.0,
            temperature=1.0,
            temperature_source=_PAIRED,
        ),
        _tabletop(
            "judge",
            "tabletop_preference:QualityJudge",
            "an independent net for the quality of a picture; for measuring, never optimised",
            -6.0,
            6.0,
            role="judge",
            temperature=1.0,
            temperature_source=_PAIRED,
        ),
        _tabletop(
            "keep",
            "tabletop_facts:KeepReward",
            "share of the asked facts that a second detector finds; a term that keeps a search honest",
            0.0,
            1.0,
            kind="probability",
            temperature_source=_PROBABLE,
        ),
        _tabletop(
            "facts",
            "tabletop_facts:FactsJudge",
            "share of the asked facts (colour-shape pairs, count) that a detector finds; for measuring only",
            0.0,
            1.0,
            role="judge",
            kind="probability",
            temperature_source=_PROBABLE,
        ),
        RewardSpec(
            name="pickscore",
            place="calibri.rewards.pickscore:PickScore",
            summary="what people picked on Pick-a-Pic: logit scale × cosine of a tuned CLIP-H",
            temperature=1.0,
            temperature_source=_PICKED,
            licence="MIT",
            source="yuvalkirstain/PickScore_v1",
            parameters=_CLIP_H,
            memory=_needs(_CLIP_H),
            range_hint=(15.0, 26.0),
        ),
        RewardSpec(
            name="hpsv2",
            place="calibri.rewards.hpsv2:HPSv2",
            summary="HPSv2.1, what people preferred on HPD: cosine of a tuned CLIP-H",
            temperature=0.01,
            temperature_source=f"{_PICKED}, and the scale, 100, is not in the score",
            licence="Apache-2.0",
            source="xswu/HPSv2",
            parameters=_CLIP_H,
            memory=_needs(_CLIP_H),
            range_hint=(0.15, 0.4),
        ),
        RewardSpec(
            name="mps",
            place="calibri.rewards.mps:MPS",
            summary="preference under a condition, overall: CLIP-H with cross-attention to the prompt",
            temperature=1.0,
            temperature_source=_PICKED,
            licence="MIT",
            source="RE-N-Y/mpsv1",
            parameters=_CLIP_H + _CROSS,
            memory=_needs(_CLIP_H + _CROSS),
            range_hint=(0.0, 20.0),
        ),
        RewardSpec(
            name="aesthetic",
            place="calibri.rewards.aesthetic:Aesthetic",
            summary="LAION's aesthetic predictor, a rating from 1 to 10 without regard to the prompt",
            temperature_source=_RATED,
            licence="Apache-2.0",
            source="camenduru/improved-aesthetic-predictor",
            parameters=_CLIP_L,
            memory=_needs(_CLIP_L),
            range_hint=(1.0, 10.0),
        ),
        RewardSpec(
            name="clipscore",
            place="calibri.rewards.clipscore:ClipScore",
            summary="CLIPScore, 2.5 × the cosine of CLIP-L, not below 0: does the picture show the prompt",
            temperature=0.025,
            temperature_source=f"{_CONTRASTED}; CLIP's scale is 100, that of the score 2.5",
            licence="MIT",
            source="openai/clip-vit-large-patch14",
            parameters=_CLIP_L,
            memory=_needs(_CLIP_L),
            range_hint=(0.0, 1.0),
        ),
        RewardSpec(
            name="hpsv3",
            place="calibri.rewards.hpsv3:HPSv3",
            summary="what people preferred on HPDv3: mu of a Qwen2-VL 7B that reads picture and prompt",
            temperature=1.0,
            temperature_source=f"{_PAIRED}; its sigma, which flattens them, is left out",
            licence="MIT",
            source="MizzenAI/HPSv3",
            parameters=8_292_152_882,
            memory={
                "float32": 34_000_000_000,
                "bfloat16": 17_100_000_000,
                "8bit": 9_900_000_000,
                "4bit": 6_900_000_000,
            },
            range_hint=(-5.0, 15.0),
            large=True,
        ),
        *(
            RewardSpec(
                name=f"vqascore-{size}",
                place=f"calibri.rewards.vqascore:VQAScore{size.upper()}",
                summary="probability that CLIP-FlanT5 answers Yes to: does this figure show the prompt",
                kind="probability",
                temperature_source=_PROBABLE,
                licence="Apache-2.0",
                source=f"zhiqiulin/clip-flant5-{size}",
                parameters=parameters,
                memory=_needs(parameters),
                range_hint=(0.0, 1.0),
                large=True,
            )
            for size, parameters in (("xl", 3_159_560_192), ("xxl", 11_459_819_520))
        ),
        RewardSpec(
            name="imagereward",
            place="calibri.rewards.imagereward:ImageReward",
            summary="what experts preferred, ImageReward: BLIP with cross-attention to the picture",
            temperature=1 / IMAGEREWARD_SPREAD,
            temperature_source=f"{_PAIRED}; then divided by its spread, {IMAGEREWARD_SPREAD:.4f}",
            licence="Apache-2.0",
            source="THUDM/ImageReward",
            parameters=446_665_953,
            memory=_needs(446_665_953),
            range_hint=(-2.5, 2.5),
        ),
        *(
            RewardSpec(
                name=name,
                place=f"calibri.rewards.qalign:{cls}",
                summary=f"Q-Align's rating of a picture's {what} from 1 to 5, without regard to the prompt",
                temperature_source=_RATED,
                licence="unclear",
                source="q-future/one-align",
                parameters=_ONE_ALIGN,
                memory=_needs(_ONE_ALIGN, "float32", "bfloat16", "float16"),
                range_hint=(1.0, 5.0),
                large=True,
            )
            for name, cls, what in (
                ("qalign", "QAlign", "quality"),
                ("qalign-aesthetics", "QAlignAesthetics", "aesthetics"),
            )
        ),
        RewardSpec(
            name="hpsv3-package",
            place="calibri.rewards.hpsv3_package:HPSv3Package",
            summary="HPSv3 by its authors' own package, in its own environment: to check hpsv3 against it",
            licence="MIT",
            source="MizzenAI/HPSv3",
            parameters=8_292_152_882,
            memory=_needs(8_292_152_882),
            range_hint=(-5.0, 15.0),
            temperature=1.0,
            temperature_source=f"{_PAIRED}; its sigma, which flattens them, is left out",
            large=True,
            offered=False,
        ),
        RewardSpec(
            name="remote",
            place="calibri.rewards.remote:RemoteReward",
            summary="what `calibri rewards serve` has on another machine; source http://HOST:PORT",
            licence="",
            range_hint=(0.0, 1.0),
            offered=False,
        ),
        RewardSpec(
            name="ocr",
            place="calibri.rewards.ocr:OCR",
            summary="share of the prompt's quoted words that can be read in the picture (PP-OCRv6)",
            kind="probability",
            licence="Apache-2.0",
            packages=("rapidocr", "onnxruntime"),
            parameters=7_854_799,  # detection, direction and recognition
            memory={"float32": 500_000_000},
            range_hint=(0.0, 1.0),
            temperature_source=_PROBABLE,
        ),
    )
}


def fitting(backbone: str) -> tuple[str, ...]:
    """Names of the catalogue that pages offer for a backbone, those made for it alone first."""
    fit = [spec for spec in CATALOG.values() if spec.fits(backbone) and spec.offered]
    return tuple(spec.name for spec in sorted(fit, key=lambda spec: spec.backbone is None))
