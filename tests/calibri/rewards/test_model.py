"""What all reward models share: devices, dtypes, memory, pictures; and scores that are kept."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import calibri
from calibri.errors import RewardError
from calibri.rewards.base import RewardInfo, close_reward
from calibri.rewards.cache import CachedReward, ScoreCache, picture_hash, score_key
from calibri.rewards.catalog import CATALOG, fitting
from calibri.rewards.model import need_packages
from calibri.rewards.pictures import as_rgb, clip_pixels, resize_and_crop
from calibri.rewards.scoring import LocalScorer

PUBLISHED = ("pickscore", "hpsv2", "mps", "aesthetic", "clipscore")


# ---- loading


@pytest.mark.parametrize(
    "device, words",
    [
        ("gpu", "device 'gpu': expected cpu, cuda, cuda:1 or mps"),
        ("cuda:77", "device 'cuda:77': torch finds .* on this machine"),
    ],
)
def test_a_device_that_is_not_there_is_refused(golden, device, words):
    with pytest.raises(RewardError, match=words):
        calibri.load_reward("pickscore", source=golden("pickscore").folder, device=device)


def test_a_dtype_that_is_not_known_is_refused(golden):
    with pytest.raises(
        RewardError, match="pickscore: expected a dtype auto, float32, bfloat16, float16, got"
    ):
        calibri.load_reward("pickscore", source=golden("pickscore").folder, dtype="int8")


def test_tabletop_rewards_take_a_device_alone():
    with pytest.raises(RewardError, match="tabletop-quality takes no source: expected the device alone"):
        calibri.load_reward("tabletop-quality", source="owner/name")


def test_a_reward_of_ones_own_may_take_source_and_dtype(monkeypatch):
    class Own:
        info = RewardInfo(name="own", role="reward", version="1", description="", range_hint=(0, 1))

        def __init__(self, device, source=None):
            self.given = device, source

        def score(self, images, prompts):
            return np.zeros(len(images))

    monkeypatch.setattr("calibri.rewards.base._REGISTERED", {"own": Own})
    assert calibri.load_reward("own", "here", "cuda:1").given == ("cuda:1", "here")
    with pytest.raises(RewardError, match="own takes no source and no dtype"):
        calibri.load_reward("own", "here", dtype="bfloat16")
    close_reward(calibri.load_reward("own"))  # has no close


def test_a_package_that_is_missing_is_named():
    spec = CATALOG["pickscore"].model_copy(update={"packages": ("numpy", "no_such_package")})
    with pytest.raises(RewardError, match=r"needs no_such_package.*pip install no_such_package"):
        need_packages(spec)


def test_rewards_of_tabletop_fit_tabletop_alone():
    assert [name for name in fitting("FLUX.1-dev") if name.startswith("tabletop")] == []
    assert set(PUBLISHED) <= set(fitting("FLUX.1-dev")) < set(fitting("tabletop"))
    assert fitting("tabletop")[0].startswith("tabletop-")


def test_the_catalogue_loads_no_torch():
    code = (
        "import sys, calibri.rewards.catalog, calibri.rewards.weights, calibri.rewards.cache\n"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", [name for name in CATALOG if name.startswith("tabletop")])
def test_tabletop_rewards_say_what_they_are_and_close(name):
    reward = calibri.load_reward(name)
    info, spec = reward.info, CATALOG[name]
    assert (info.name, info.role, info.kind, info.licence) == (name, spec.role, spec.kind, spec.licence)
    assert info.revision.startswith(f"{info.weights}-p") and len(info.weights) == 16
    assert info.size > 0 and info.parameters > 0 and info.memory["float32"] > info.size
    image = Image.new("RGBA", (40, 30), "red")
    assert np.isfinite(reward.score([image], ["a red cube"])).all()
    reward.close()
    with pytest.raises(RewardError, match=f"{name} was closed"):
        reward.score([image], ["a red cube"])


def test_an_info_of_an_earlier_version_still_loads():
    old = '{"name": "a", "role": "judge", "version": "1", "description": "d", "range_hint": [0.0, 1.0]}'
    info = RewardInfo.model_validate_json(old)
    assert (info.kind, info.revision, info.memory) == ("bt", "", {})


# ---- memory


class Crowded(torch.nn.Module):
    """A CLIP whose memory holds so many pictures."""

    def __init__(self, model, most):
        super().__init__()
        self.model, self.most, self.sizes = model, most, []
        self.config = model.config

    def get_image_features(self, pixel_values):
        self.sizes.append(len(pixel_values))
        if len(pixel_values) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.model.get_image_features(pixel_values=pixel_values)

    def get_text_features(self, input_ids):
        return self.model.get_text_features(input_ids=input_ids)


def test_out_of_memory_halves_the_batch_and_the_scores_are_the_same(golden):
    case = golden("pickscore")
    images, prompts = case.images * 7, case.prompts * 7
    reward = calibri.load_reward("pickscore", source=case.folder)
    expected = reward.score(images, prompts)
    reward._model = crowded = Crowded(reward._model, most=5)
    assert np.allclose(reward.score(images, prompts), expected, atol=1e-4)
    assert crowded.sizes == [16, 8, 4, 4, 4, 4, 4, 1]
    reward.score(images[:5], prompts[:5])
    assert crowded.sizes[8:] == [4, 1]  # it stays so


def test_no_memory_for_one_picture_says_what_to_change(golden):
    case = golden("pickscore")
    reward = calibri.load_reward("pickscore", source=case.folder)
    reward._model = Crowded(reward._model, most=0)
    with pytest.raises(
        RewardError, match="pickscore does not fit into the memory of cpu: unload other models, or choose"
    ):
        reward.score(case.images, case.prompts)


# ---- pictures


def test_sixteen_bits_and_shares_are_eight_bits_of_the_same_grey():
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    expected = Image.fromarray(levels.astype(np.uint8)).convert("RGB").tobytes()
    assert as_rgb(Image.fromarray(levels * 257)).tobytes() == expected
    assert as_rgb(Image.fromarray((levels * 257).astype(np.int32))).tobytes() == expected
    assert as_rgb(Image.fromarray((levels / 255).astype(np.float32))).tobytes() == expected
    assert as_rgb(Image.fromarray(levels.astype(np.int32))).tobytes() == expected
    nothing = Image.fromarray(np.full((2, 2), np.nan, np.float32))
    assert as_rgb(nothing).tobytes() == bytes(12)


def test_what_has_no_pixels_is_refused():
    with pytest.raises(RewardError, match="expected a picture with pixels, got 0×5"):
        as_rgb(Image.new("RGB", (0, 5)))


def test_the_narrow_way_gives_the_same_picture(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (40, 700, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    whole = np.asarray(resize_and_crop(image, 224), dtype=int)
    monkeypatch.setattr("calibri.rewards.pictures._NARROW", 1)
    narrow = np.asarray(resize_and_crop(image, 224), dtype=int)
    assert np.abs(whole - narrow).max() <= 2


def test_pixels_are_those_of_clips_own_processor(golden):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    images = [image.convert("RGB") for image in golden("pickscore").images]
    images += [images[0].resize(size) for size in ((300, 200), (199, 301), (224, 224), (17, 23))]
    expected = CLIPImageProcessorPil()(images, return_tensors="np")["pixel_values"]
    assert np.abs(clip_pixels(images) - np.stack(expected)).max() < 1e-6


# ---- scores that are kept


class Counting:
    """Brightness, and how often it was asked."""

    def __init__(self, revision="r1"):
        self.info = RewardInfo(
            name="bright", role="reward", version="1", description="", range_hint=(0, 1), revision=revision
        )
        self.seen = 0

    def score(self, images, prompts):
        self.seen += len(images)
        return np.array([np.asarray(i).mean() / 3 + len(p) for i, p in zip(images, prompts)])


def some_pictures(n=6, mode="RGB"):
    noise = np.random.default_rng(1).integers(0, 256, (n, 9, 7, 3), dtype=np.uint8)
    return [Image.fromarray(each).convert(mode) for each in noise]


def test_a_score_is_computed_once_and_is_the_same_to_the_bit(tmp_path):
    reward, images = Counting(), some_pictures()
    prompts = [f"prompt {'x' * i}" for i in range(6)]
    kept = CachedReward(reward, ScoreCache(tmp_path / "in" / "scores.db"))
    first = kept.score([*images, images[0]], [*prompts, prompts[0]])
    assert reward.seen == 6  # the last is the first
    assert np.array_equal(first, Counting().score([*images, images[0]], [*prompts, prompts[0]]))
    again = CachedReward(reward, ScoreCache(tmp_path / "in" / "scores.db"))
    assert np.array_equal(again.score(images[::-1], prompts[::-1]), first[:6][::-1])
    assert reward.seen == 6
    assert np.isfinite(again.score(images[:2], ["other", prompts[1]])).all() and reward.seen == 7


def test_another_revision_is_another_score(tmp_path):
    cache, images = ScoreCache(tmp_path / "s.db"), some_pictures()
    CachedReward(Counting("r1"), cache).score(images, ["a"] * 6)
    other = Counting("r2")
    CachedReward(other, cache).score(images, ["a"] * 6)
    assert other.seen == 6 and len(cache) == 12


def test_a_reward_without_a_revision_is_never_kept(tmp_path):
    cache, reward = ScoreCache(tmp_path / "s.db"), Counting("")
    for _ in range(2):
        CachedReward(reward, cache).score(some_pictures(), ["a"] * 6)
    assert reward.seen == 12 and len(cache) == 0


def test_scores_that_are_not_finite_are_not_kept(tmp_path):
    cache = ScoreCache(tmp_path / "s.db")
    cache.keep({b"a": float("nan"), b"b": float("inf"), b"c": 1.5})
    assert cache.find([b"a", b"b", b"c"]) == {b"c": 1.5}


def test_what_a_picture_shows_is_its_key():
    image = some_pictures(1)[0]
    turned = image.transpose(Image.Transpose.ROTATE_90)
    others = [image.convert("RGBA"), image.convert("L"), turned, image.resize((7, 10))]
    hashes = {picture_hash(each) for each in [image, image.copy(), *others]}
    assert len(hashes) == 5
    palettes = [image.convert("P", palette=Image.Palette.ADAPTIVE, colors=4) for _ in range(2)]
    palettes[1].putpalette([255 - v for v in palettes[1].getpalette()])
    assert picture_hash(palettes[0]) != picture_hash(palettes[1])
    keys = {score_key(b"a" * 32, p, r) for p, r in (("a", "b"), ("ab", ""), ("", "ab"), ("a", "c"))}
    assert len(keys) == 4


def test_every_pixel_of_a_large_picture_counts():
    pixels = np.random.default_rng(2).integers(0, 256, (300, 211, 3), dtype=np.uint8)
    first = picture_hash(Image.fromarray(pixels))
    draw = np.random.default_rng(3)
    for _ in range(200):
        place = tuple(draw.integers(0, size) for size in pixels.shape)
        changed = pixels.copy()
        changed[place] ^= 1 << int(draw.integers(8))
        assert picture_hash(Image.fromarray(changed)) != first
    rows = pixels.copy()
    rows[[10, 200]] = rows[[200, 10]]
    assert picture_hash(Image.fromarray(rows)) != first
    blank = [Image.new("RGB", size) for size in ((300, 211), (211, 300), (301, 211))]
    assert len({picture_hash(image) for image in blank}) == 3


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, " * 100)
    with pytest.raises(RewardError, match=r"notes\.txt cannot hold scores"):
        ScoreCache(tmp_path / "notes.txt")
    with pytest.raises(RewardError, match="cannot hold scores"):
        ScoreCache(tmp_path)


def test_threads_and_processes_share_the_file(tmp_path):
    path = tmp_path / "s.db"
    code = (
        "import sys; from calibri.rewards.cache import ScoreCache\n"
        "cache = ScoreCache(sys.argv[1])\n"
        "for i in range(100): cache.keep({f'{sys.argv[2]} {i}'.encode(): float(i)})"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(2)]
    cache = ScoreCache(path)

    def work(n):
        for i in range(100):
            cache.keep({f"thread {n} {i}".encode(): float(i)})
            cache.find([b"thread 0 1", b"thread 1 1"])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(timeout=60) for other in others] == [0, 0]
    assert len(cache) == 400


def test_a_scorer_with_a_cache_scores_pictures_once(tmp_path):
    class Painter:
        def render(self, batch, turn=None):
            return [type("Rendered", (), {"image": image}) for image in some_pictures(len(batch))]

    requests = [type("Request", (), {"prompt": f"p{i}"}) for i in range(6)]
    reward = Counting()
    scorer = LocalScorer(Painter(), {"bright": reward}, cache=ScoreCache(tmp_path / "s.db"))
    first = scorer(requests, ["bright"])
    assert np.array_equal(scorer(requests, ["bright"]), first)
    assert reward.seen == 6
    plain = LocalScorer(Painter(), {"bright": Counting()})(requests, ["bright"])
    assert np.array_equal(plain, first)
    assert scorer.revisions == {"bright": "r1"} and scorer.judges == frozenset()
