"""Small learners and batches whose every number is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.transitions import Batch
from policies.preparation import Preparation

torch.set_num_threads(1)


def plain_preparation(state: int = 3, action: int = 2, chunk: int = 1, history: int = 1) -> Preparation:
    """Networks see and produce the numbers as they are; actions in [-1, 1]."""
    return Preparation(
        seen=torch.arange(state),
        periodic=torch.zeros(0, dtype=torch.int64),
        mean=torch.zeros(history * state),
        std=torch.ones(history * state),
        reference=torch.full((action,), -1),
        center=torch.zeros(chunk, action),
        scale=torch.ones(chunk, action),
        low=-torch.ones(action),
        high=torch.ones(action),
        history=history,
    )


def random_batch(seed: int, rows: int = 16, state: int = 3, action: int = 2, chunk: int = 1) -> Batch:
    """Rewards, masks, discounts and chunk ends all differ between rows."""
    rng = np.random.default_rng(seed)
    taken = rng.integers(1, chunk + 1, rows)

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, np.float32))

    return Batch(
        state=tensor(rng.normal(size=(rows, state))),
        action=tensor(rng.uniform(-0.9, 0.9, (rows, chunk, action))),
        valid=tensor(np.arange(chunk) < taken[:, None]),
        reward=tensor(rng.normal(size=rows)),
        next_state=tensor(rng.normal(size=(rows, state))),
        mask=tensor(rng.integers(0, 2, rows)),
        discount=tensor(0.9**taken),
        return_to_go=tensor(rng.normal(size=rows)),
    )


@pytest.fixture
def preparation() -> Callable[..., Preparation]:
    return plain_preparation


@pytest.fixture
def batch() -> Callable[..., Batch]:
    return random_batch


@pytest.fixture
def contract() -> Contract:
    """Three state entries; the first two actions have limits, the first is a target for a state entry."""
    return Contract(
        name="arm",
        state=(StateEntry("x", "m"), StateEntry("y", "m"), StateEntry("speed", "m/s")),
        action=(ActionEntry("to_x", "m", -2.0, 6.0, reference="x"), ActionEntry("grip", "", -1.0, 1.0)),
        rate=10.0,
    )
