"""Two Ray workers give what one process gives, also when one of them is killed."""

import os
import signal

import numpy as np
import pytest
import torch

from calibri.errors import SearchError
from calibri.rewards.scoring import LocalScorer, SearchStopped
from calibri.search.config import Budget
from calibri.search.distributed import RayScorer, packed, unpacked
from calibri.search.journal import read_journal
from calibri.search.objective import Objective
from calibri.search.records import GenerationRecord
from calibri.search.run import run_search
from tests.small_search import make_small

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def make_worker(tiny_folder, rewards):
    """What each worker loads: the tiny pipeline, and rewards sent by value, because no test is installed
    there.
    """
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(__import__(type(rewards["redness"]).__module__))
    path = str(tiny_folder)

    def make():
        from calibri.backbones.loading import load_backbone

        return load_backbone(path, device="cpu", dtype="float32"), rewards

    return make


@pytest.fixture(scope="module")
def workers(make_worker, module_config):
    with RayScorer.connected(module_config, workers=2, make=make_worker) as scorer:
        yield scorer


@pytest.fixture(scope="module")
def module_config():
    return make_small(validation_prompts=(), bucket=4, validation_pairs=0)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def requests(backbone, workers, module_config):
    """24 pictures of 3 candidates and the base."""
    objective = Objective(module_config, backbone.layout("layer"), workers)
    rng = np.random.default_rng(0)
    candidates = [None, *(objective.space.decode(rng.normal(1, 0.2, 3)) for _ in range(3))]
    return [objective.request(objective.source.pair(i), members) for members in candidates for i in range(6)]


@pytest.fixture
def expected(backbone, rewards, requests, one_thread):
    from calibri.sampling.renderer import Renderer

    return LocalScorer(Renderer(backbone, batch_size=4), rewards, 4)(requests, ["redness", "contrast"])


def test_requests_travel_as_plain_values(requests, backbone):
    for request in requests:
        assert unpacked(packed(request), backbone) == request


def test_two_workers_score_bitwise_as_one_process(workers, requests, expected):
    seen = []
    scores = workers(
        requests, ["redness", "contrast"], progress=lambda done, total: seen.append((done, total))
    )
    assert (scores == expected).all()
    assert seen[-1] == (24, 24)


def test_a_search_is_bitwise_the_same(workers, tmp_path, backbone, rewards, module_config, one_thread):
    for name, scorer in (("alone", None), ("together", workers)):
        list(
            run_search(
                module_config,
                tmp_path / name,
                backbone=backbone,
                rewards=rewards,
                budget=Budget(generations=2),
                scorer=scorer,
            )
        )
    alone, together = (
        [(r.candidates, r.scores) for r in read_journal(tmp_path / n) if isinstance(r, GenerationRecord)]
        for n in ("alone", "together")
    )
    assert len(alone) == 2 and alone == together


def test_the_share_of_a_killed_worker_is_done_again(workers, requests, expected):
    import ray

    victim = ray.get(workers.actors[0].process.remote())
    killed = []

    def kill_once(done, total):
        if not killed:
            os.kill(victim, signal.SIGKILL)
            killed.append(done)

    scores = workers(requests, ["redness", "contrast"], progress=kill_once)
    assert killed and (scores == expected).all()
    assert ray.get(workers.actors[0].process.remote()) != victim or victim not in [
        ray.get(actor.process.remote()) for actor in workers.actors
    ]


def test_stopping_between_batches_gives_no_scores(workers, requests):
    with pytest.raises(SearchStopped):
        workers(requests, ["redness"], stop=lambda: True)


def test_an_error_of_a_batch_comes_through(workers, requests):
    with pytest.raises((SearchError, KeyError), match="sharpness"):
        workers(requests, ["sharpness"])
