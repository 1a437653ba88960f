"""A task that costs nothing, a store of it, and runs on it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.encoders import Encoder
from episodes.snapshot import Snapshot
from episodes.store import Store
from finetune.config import TrainConfig, resolve
from finetune.pretrain import pretrain
from rewards.label import label
from rewards.marks import Marks, Success
from rewards.settings import label_config
from sim.base import Task
from sim.collect import collect
from sim.gaps import Gap
from sim.operators import RandomOperator
from sim.task import make_task

torch.set_num_threads(1)


class Walk(Task):
    """A point in the plane shall get to x = 1: reward 1 there, and the end. It begins where the seed says."""

    scores_states = True
    terminates_on_success = True

    def __init__(self, horizon: int = 8, cameras: tuple[str, ...] = (), image_size: tuple[int, int] = (4, 6)):
        contract = Contract(
            name="walk",
            state=(StateEntry("x", "m"), StateEntry("y", "m")),
            action=(ActionEntry("step_x", "m", -1.0, 1.0), ActionEntry("step_y", "m", -1.0, 1.0)),
            cameras=tuple(Camera(name, *image_size) for name in cameras),
            rate=10.0,
        )
        super().__init__("walk", contract, "go right", horizon, Gap())
        self.seeds: list[int] = []
        self._position = np.zeros(2)

    def _reset(self, seed: int) -> None:
        self.seeds.append(seed)
        self._position = np.random.default_rng(seed).uniform(-0.5, 0.5, 2)

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self._position = self._position + 0.4 * action
        success = bool(self._score(self._state().astype(np.float32)[None])[1][0])
        return float(success), success, False, {}

    def _state(self) -> np.ndarray:
        return self._position

    def _score(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = state[:, 0] >= 1.0
        return there, there

    def _image(self, camera: str, height: int, width: int) -> np.ndarray:
        return np.full((height, width, 3), np.clip(100 + 50 * self._position[0], 0, 255), np.uint8)

    def render(self) -> np.ndarray:
        return self._image("", 256, 256)


@pytest.fixture
def walk() -> Callable[..., Walk]:
    return Walk


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Fine-tuning meets the walk, whatever task it is told; arguments are the walk's own."""

    def use(**options: Any) -> None:
        def make(spec: str, *, cameras=(), image_size=(4, 6), gap=None) -> Walk:
            return Walk(cameras=tuple(cameras), image_size=image_size, **options)

        monkeypatch.setattr("finetune.online.make_task", make)

    use()
    return use


def collected(path: Path, task: Task, episodes: int, operator: RandomOperator | None = None) -> Store:
    store = Store.create(path, task.contract)
    acting = operator or RandomOperator(task)
    store.append(list(collect(task, lambda quality: acting, range(episodes))))
    return store


@pytest.fixture(scope="session")
def _walk_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walk") / "store"
    collected(path, Walk(), 60)
    return path


@pytest.fixture
def store(_walk_store: Path, _walk_parent: Path, tmp_path: Path) -> Path:
    """Sixty random walks, in a store of the test's own."""
    return shutil.copytree(_walk_store, tmp_path / "store")


def small(**settings: Any) -> TrainConfig:
    """A configuration that trains in a second; dropout, so that the generator matters."""
    algorithm = settings.pop("algorithm", "iql")
    defaults = {"hidden": [16, 16], "dropout": 0.25, "steps": 40, "batch_size": 16, "checkpoint_every": 10}
    return resolve(algorithm, None, None, defaults | {"log_every": 5, "device": "cpu", "chunk": 2} | settings)


@pytest.fixture
def config() -> Callable[..., TrainConfig]:
    return small


@pytest.fixture(scope="session")
def _walk_parent(_walk_store: Path) -> Path:
    pretrain(_walk_store, _walk_store.parent / "parent", small(chunk=1, steps=30, reward_bias=-1.0))
    return _walk_store.parent / "parent"


@pytest.fixture
def parent(_walk_parent: Path, _walk_store: Path, store: Path, tmp_path: Path) -> Path:
    """A pretrained IQL run of one action at a time, on the test's own store."""
    path = shutil.copytree(_walk_parent, tmp_path / "parent")
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace(str(_walk_store), str(store)))
    return path


class Middle(torch.nn.Module):
    """The mean of each colour."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3))


def see_through(encoder: Encoder, patch: pytest.MonkeyPatch) -> None:
    """Let it stand in for whatever encoder is asked for, whoever asks."""
    for module in ("finetune.data", "policies.policy", "rewards.sight", "rewards.labeller"):
        patch.setattr(f"{module}.load_encoder", lambda name, device=None, fast=False: encoder)


@pytest.fixture(scope="session")
def _middle() -> Encoder:
    return Encoder("middle", Middle(), torch.full((3, 1, 1), 0.5), torch.ones(3, 1, 1), "middle", None)


SEEN_SIZE = (5, 7)
"""Of the labelled walks' pictures: not what a task would choose itself."""
_QUICK = (
    "reward.updates=50",
    "reward.hidden=[8]",
    "reward.learning_rate=0.02",
    "reward.weight_decay=0.0",
    "device=cpu",
)
_HALF_WAY = 0.5


class _Drifting(RandomOperator):
    """To the right in every other episode, and else anywhere."""

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._drift = np.array([0.5, 0.0]) * (seed % 2 == 0)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return (super().act(observation) + self._drift).astype(np.float32)


def _half_way(snapshot: Snapshot) -> Marks:
    """A person who calls it done from half of the way on, long before the simulator does."""
    good, bad = [], []
    bounds = zip(snapshot.observation_starts, snapshot.observation_ends, strict=True)
    for number, (start, stop) in enumerate(bounds):
        there = snapshot.column("state")[start:stop, 0] >= _HALF_WAY
        since = len(there) - int(np.argmin(there[::-1]))
        if not there.any():
            bad.append(number)
        elif since < len(there):
            good.append(Success(number, since))
    return Marks(tuple(good), tuple(bad))


@pytest.fixture(scope="session")
def _labelled(tmp_path_factory: pytest.TempPathFactory, _middle: Encoder) -> Path:
    task = Walk(cameras=("eye",), image_size=SEEN_SIZE)
    store = collected(tmp_path_factory.mktemp("labelled") / "store", task, 40, operator=_Drifting(task))
    marks = _half_way(store.snapshot())
    with pytest.MonkeyPatch.context() as patch:
        see_through(_middle, patch)
        for name, settings, marked in (
            ("seen", [], True),
            ("sparse", ["method=success"], True),
            ("states", ["reward.inputs=state"], False),
            ("direct", ["method=score"], False),
        ):
            flags = {"task": "go right", "judge": "progress", "pairs": 60}
            config = label_config(flags, None, [*_QUICK, *settings], marked=marked)
            label(store, name, config, marks=marks if marked else None)
    return store.path


@pytest.fixture
def labelled(_labelled: Path, _middle: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty walks with pictures, and label sets that were made by looking at them: `seen` (potentials), `sparse`,
    `states` (preferences on states, no success), and `direct` (a judge's own scores). Every encoder is a cheap one."""
    see_through(_middle, monkeypatch)
    return shutil.copytree(_labelled, tmp_path / "labelled")


@pytest.fixture(scope="session")
def pusht_parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained run for `pusht:horizon=5`, which a process of its own can fine-tune."""
    folder = tmp_path_factory.mktemp("pusht")
    collected(folder / "store", make_task("pusht:horizon=5"), 6)
    pretrain(folder / "store", folder / "parent", small(chunk=1, steps=20))
    return folder / "parent"


@pytest.fixture
def same_run() -> Callable[[Path, Path], None]:
    """Asserts that two runs came out the same: checkpoints, metrics and recorded episodes."""

    def check(one: Path, other: Path) -> None:
        names = sorted(path.name for path in (one / "checkpoint").iterdir() if not path.name.startswith("."))
        assert names == sorted(path.name for path in (other / "checkpoint").iterdir() if not path.name.startswith("."))
        for file in ("last", "metrics.jsonl", *(f"checkpoint/{name}/state.safetensors" for name in names)):
            assert (one / file).read_bytes() == (other / file).read_bytes(), file
        if (one / "episodes").exists():
            digests = [
                [each["digest"] for each in Store.open(run / "episodes").snapshot().metadata] for run in (one, other)
            ]
            assert digests[0] == digests[1]

    return check
