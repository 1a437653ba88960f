"""A workspace for tests of the command line: logs, stores and runs of every kind. A plugin of such test files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import firsthand
from finetune.run import Run

TASK = "pusht:horizon=4"
EYE = ["--camera", "image", "--image-size", "8x8"]
SMALL = ["--set", "hidden=[8]", "--set", "batch_size=8", "--device", "cpu"]

QUICK = ["--pairs", 40, "--set", "reward.updates=25", "--set", "reward.hidden=[8]", "--set", "device=cpu"]
TIME = ["--judge", "progress", "--task", "push it", "--set", "reward.inputs=state", *QUICK]
"""What a labelling by time takes that looks at no picture."""
CHAT = ["--judge", "chat", "--task", "push it", "--model", "m", "--set", "reward.inputs=state", *QUICK]
MARKS = {
    "contradicting": "successes: [{episode: 0, from: 1}]\nfailures: [0]",
    "beyond": "successes: [{episode: 7}]",
    "late": "successes: [{episode: 0, from: 99}]",
    "mistyped": "succeses: [{episode: 0}]",
    "numbers": "successes: [0]",
    "words": "failures: [first]",
}
CAPTIONS = {
    "two": [
        json.dumps({"episode": 0, "observation": number, "text": text})
        for number, text in enumerate(["far away", "near it"] * 2)
    ],
    "no-json": ["episode 0 is far away"],
    "one-text": [json.dumps({"episode": 0, "observation": number, "text": "far away"}) for number in range(3)],
    "no-such": [json.dumps({"episode": 4, "observation": 0, "text": "far away"})],
    "key": [json.dumps({"episode": 0, "observatoin": 0, "text": "far away"})],
}

torch.set_num_threads(1)


def run(*arguments: Any) -> int:
    """The exit code of a command, in this process."""
    try:
        return firsthand.main([str(argument) for argument in arguments])
    except SystemExit as exit:
        return int(exit.code or 0)


class Brightness:
    """Stands in for a network that takes seconds to load."""

    name = weights = key = "brightness"

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1).mean(1, keepdims=True).astype(np.float32)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs, two stores, and runs of every kind, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("finetune.data.load_encoder", lambda name: Brightness())
        write_logs(folder / "logs.hdf5")
        for arguments in (
            ["collect", "store", "--task", TASK, "--operator", "random", "--episodes", 3],
            ["collect", "seen", "--task", TASK, "--operator", "random", "--episodes", 1, *EYE],
            ["label", "store", "--task", TASK],
            ["label", "store", "--name", "time", *TIME],
            ["label", "seen", "--name", "time", *TIME],
            ["pretrain", "store", "--run", "iql", "--labels", "env", "--steps", 5, *SMALL],
            ["pretrain", "store", "--run", "bc", "--algorithm", "bc", "--steps", 3, *SMALL],
            ["finetune", "iql", "--run", "online", "--task", TASK, "--episodes", 2],
            ["pretrain", "seen", "--run", "watching", "--camera", "image", "--steps", 2, *SMALL],
        ):
            assert run(*arguments) == 0, arguments
        for arguments in (
            ["collect", "lift", "--task", "lift-quick:horizon=3", "--operator", "random", "--episodes", 1],
            ["caption", "seen", "--task", TASK, "--out", "seen.jsonl"],
        ):
            assert run(*arguments) == 0, arguments
        Run.create(folder / "begun", Run.open(folder / "iql").config)
        shutil.copytree(folder / "bc", folder / "slow")
        description = next((folder / "slow").glob("checkpoint/*/state.json"))
        description.write_text(description.read_text().replace('"rate": 10.0', '"rate": 5.0'))
        (folder / "broken.yaml").write_text("a: [")
        (folder / "list.yaml").write_text("- a")
        (folder / "wrong.yaml").write_text("learner: {expectle: 0.9}")
        for name, content in MARKS.items():
            (folder / f"{name}.yaml").write_text(content)
        (folder / "time.yaml").write_text("judge: progress\nasking: {pairs: 40}\nlabeller: {reward: {inputs: state}}\n")
        for name, lines in CAPTIONS.items():
            (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Path:
    """The workspace, as the current folder; nothing printed so far."""
    monkeypatch.chdir(workspace)
    monkeypatch.setattr("policies.policy.load_encoder", lambda name: Brightness())
    capfd.readouterr()
    return workspace


@pytest.fixture
def own(here: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the workspace's stores that a test may write to."""
    return lambda name: shutil.copytree(here / name, tmp_path / name)


def write_logs(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["observations"] = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
        file["actions"] = np.zeros((8, 2), np.float32)
        file["rewards"] = np.ones(8, np.float32)
        file["terminals"] = np.zeros(8, bool)
        file["timeouts"] = np.arange(8) % 4 == 3


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}
