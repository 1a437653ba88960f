"""How fast the parts are: the store, sampling, and an IQL update beside a plain eager one and one of FamO2O.

    python -m benchmarks.speed

One core, one thread. What is compared is interleaved in one run; figures are medians over the repetitions, with their
range.
"""

import argparse
import copy
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn

from episodes.contract import contract_from
from episodes.episode import Episode
from episodes.sampler import Sampler
from episodes.store import Store
from episodes.transitions import Batch, SamplingConfig, Transitions
from policies.famo2o import FamO2O, FamO2OConfig
from policies.iql import IQL, IQLConfig
from policies.preparation import prepare_from

STATE, ACTION, IMAGE, STEPS = 17, 6, 84, 60


class PlainIQL:
    """The same step written the obvious way: separate critics, every loss computes what it needs, ordinary Adam."""

    def __init__(self) -> None:
        def mlp(size: int, out: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, out))

        self.critics = [mlp(STATE + ACTION, 1), mlp(STATE + ACTION, 1)]
        self.targets = copy.deepcopy(self.critics)
        self.value, self.mean = mlp(STATE, 1), mlp(STATE, ACTION)
        self.log_std = nn.Parameter(torch.zeros(ACTION))
        critic_parameters = [p for critic in self.critics for p in critic.parameters()]
        self.value_adam = torch.optim.Adam(self.value.parameters(), 3e-4)
        self.actor_adam = torch.optim.Adam([*self.mean.parameters(), self.log_std], 3e-4)
        self.critic_adam = torch.optim.Adam(critic_parameters, 3e-4)

    def update(self, batch: Batch) -> None:
        state, action, following = batch.state, batch.action[:, 0], batch.next_state
        with torch.no_grad():
            q = torch.min(*(target(torch.cat([state, action], 1)) for target in self.targets))
        difference = q - self.value(state)
        loss = (torch.where(difference < 0, 0.3, 0.7) * difference**2).mean()
        self._descend(self.value_adam, loss)
        with torch.no_grad():
            q = torch.min(*(target(torch.cat([state, action], 1)) for target in self.targets))
            weight = (3.0 * (q - self.value(state))).exp().clamp(max=100.0)
        normal = torch.distributions.Normal(torch.tanh(self.mean(state)), self.log_std.clamp(-5, 2).exp())
        loss = -(weight * normal.log_prob(action).sum(1, keepdim=True)).mean()
        self._descend(self.actor_adam, loss)
        with torch.no_grad():
            future = batch.mask[:, None] * self.value(following)
            target = batch.reward[:, None] + 0.99 * future
        loss = sum(((critic(torch.cat([state, action], 1)) - target) ** 2).mean() for critic in self.critics)
        assert isinstance(loss, torch.Tensor)
        self._descend(self.critic_adam, loss)
        with torch.no_grad():
            for average, critic in zip(self.targets, self.critics, strict=True):
                for mine, theirs in zip(average.parameters(), critic.parameters(), strict=True):
                    mine.mul_(0.995).add_(0.005 * theirs)

    @staticmethod
    def _descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def episode(generator: np.random.Generator, images: bool) -> Episode:
    shape = (STEPS + 1, IMAGE, IMAGE, 3)
    return Episode(
        state=generator.normal(size=(STEPS + 1, STATE)).astype(np.float32),
        action=generator.uniform(-1, 1, (STEPS, ACTION)).astype(np.float32),
        reward=generator.normal(size=STEPS).astype(np.float32),
        terminated=False,
        truncated=True,
        images={"front": generator.integers(0, 255, shape, dtype=np.uint8)} if images else {},
    )


def store_rows(repetitions: int, folder: Path) -> dict[str, list[float]]:
    """Milliseconds to append one episode of 60 steps, and to load."""
    generator = np.random.default_rng(0)
    rows: dict[str, list[float]] = {}
    for images in (False, True):
        contract = contract_from(
            {
                "name": "benchmark",
                "state": [{"name": f"s{i}"} for i in range(STATE)],
                "action": [{"name": f"a{i}"} for i in range(ACTION)],
                "cameras": [{"name": "front", "height": IMAGE, "width": IMAGE}] if images else [],
            },
            "benchmark",
        )
        kind = f"with {IMAGE} px images" if images else "without images"
        store = Store.create(folder / kind.replace(" ", "-"), contract)
        one = episode(generator, images)
        rows[f"append an episode of {STEPS} steps {kind} [ms]"] = [
            1e3 * timed(lambda s=store, e=one: s.append([e])) for _ in range(repetitions)
        ]
        rows[f"load all states of {repetitions} episodes {kind} [ms]"] = [
            1e3 * timed(lambda s=store: s.snapshot().column("state")) for _ in range(5)
        ]
        if images:
            frames = store.snapshot().observations
            seconds = [timed(lambda s=store: s.snapshot().images("front")) for _ in range(3)]
            rows["load images [frames/s]"] = [frames / each for each in seconds]
    return rows


def learning_rows(repetitions: int, updates: int) -> dict[str, list[float]]:
    """Updates per second, ours and plain in turn, and what sampling takes of ours."""
    generator = np.random.default_rng(0)
    contract = contract_from(
        {
            "name": "benchmark",
            "state": [{"name": f"s{i}"} for i in range(STATE)],
            "action": [{"name": f"a{i}", "low": -1, "high": 1} for i in range(ACTION)],
        },
        "benchmark",
    )
    transitions = Transitions(SamplingConfig(), STATE, ACTION)
    for _ in range(200):
        transitions.add_episode(episode(generator, images=False))
    sampler = Sampler([(transitions, 256)], 0)
    preparation = prepare_from(transitions, contract, normalise=False)
    ours, family = IQL(IQLConfig(), preparation, 0), FamO2O(FamO2OConfig(), preparation, 0)
    plain = PlainIQL()
    batch = sampler.sample()
    for _ in range(20):
        ours.update(batch)
        family.update(batch)
        plain.update(batch)
    fast, slow, chosen, drawn = [], [], [], []
    for _ in range(repetitions):
        fast.append(updates / timed(lambda: [ours.update(batch) for _ in range(updates)]))
        slow.append(updates / timed(lambda: [plain.update(batch) for _ in range(updates)]))
        chosen.append(updates / timed(lambda: [family.update(batch) for _ in range(updates)]))
        drawn.append(timed(lambda: [sampler.sample() for _ in range(updates)]) / updates)
    return {
        "IQL updates, ours [1/s]": fast,
        "IQL updates, plain eager [1/s]": slow,
        "ratio ours / plain": [a / b for a, b in zip(fast, slow, strict=True)],
        "FamO2O updates [1/s]": chosen,
        "ratio FamO2O / IQL": [a / b for a, b in zip(chosen, fast, strict=True)],
        "draw a batch of 256 [us]": [1e6 * each for each in drawn],
        "sampling's share of an update [%]": [
            100 * each / (each + 1 / rate) for each, rate in zip(drawn, fast, strict=True)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the raw figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        rows = store_rows(4 * options.repetitions, folder) | learning_rows(options.repetitions, options.updates)
    finally:
        shutil.rmtree(folder)
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, one thread\n")
    print("| what | median | range |\n|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | {statistics.median(values):.4g} | {min(values):.4g} to {max(values):.4g} |")
    if options.json:
        options.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
