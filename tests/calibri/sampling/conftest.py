"""A tiny FLUX backbone, made once."""

import pytest
import torch

from tests.tiny import LATENT_CHANNELS, tiny_backbone


@pytest.fixture(scope="session")
def backbone():
    return tiny_backbone()


@pytest.fixture
def flux_inputs():
    """Keyword arguments for the tiny transformer: `make(batch)`."""

    def make(batch=3, dtype=torch.float32, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator).to(dtype)

        ids = torch.zeros(4, 3, dtype=dtype)
        ids[:, 1], ids[:, 2] = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        return {
            "hidden_states": draw(batch, 4, 4 * LATENT_CHANNELS),
            "encoder_hidden_states": draw(batch, 5, 32),
            "pooled_projections": draw(batch, 24),
            "timestep": torch.full((batch,), 0.7, dtype=dtype),
            "img_ids": ids,
            "txt_ids": torch.zeros(5, 3, dtype=dtype),
            "return_dict": False,
        }

    return make
