"""A policy from a real robot's log: how near it comes to actions in episodes that it did not learn from.

    python -m benchmarks.held_out --out runs/held-out

The log is the Unitree G1's of `FIRSTHAND_DATA` (docs/formats.md): 100 episodes, 12 of them with their camera. Behaviour
cloning from the state, from frozen image features, and from both, one action at a time; a fifth of the 100 episodes is
held out, a quarter of the 12, drawn anew for every seed. Beside it stand predictors that need no learning
(`finetune/held_out.py`). What is there already is not done again.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from episodes.importers import open_source
from episodes.importing import import_into
from finetune.config import resolve
from finetune.held_out import PREDICTORS, action_errors
from finetune.pretrain import pretrain
from finetune.run import Run

DATA = Path(os.environ.get("FIRSTHAND_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data"))
SEES: dict[str, dict[str, Any]] = {
    "100: state": {},
    "100: state, relative": {"relative_actions": True},
    "12: state": {},
    "12: picture": {"camera": "cam_high", "state_entries": []},
    "12: state and picture": {"camera": "cam_high"},
}
"""By how many episodes there are and what the policy sees: its settings."""


def stores(out: Path) -> dict[str, Path]:
    """The log twice: without its camera, and the part that has it. Its actions are targets of the joints' names."""
    found = {}
    wanted: dict[str, dict[str, Any]] = {"100": {"cameras": ()}, "12": {"image_size": (120, 160)}}
    for episodes, options in wanted.items():
        found[episodes] = out / f"g1-{episodes}"
        source = open_source(DATA / "g1_bottle", **options)
        names = source.contract.state_names
        action = tuple(replace(e, reference=e.name if e.name in names else None) for e in source.contract.action)
        import_into(source, found[episodes], contract=replace(source.contract, action=action))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    logs = stores(options.out)
    results: dict[str, list[dict[str, Any]]] = {}
    for name, settings in SEES.items():
        episodes = name.partition(":")[0]
        share = {"100": 0.2, "12": 0.25}[episodes]
        for seed in range(options.seeds):
            path = options.out / f"{name.replace(': ', '-').replace(', ', '-').replace(' ', '-')}-{seed}"
            if not path.exists():
                given = {"steps": options.steps, "seed": seed, "held_out": share, "device": "cpu"} | settings
                pretrain(logs[episodes], path, resolve("bc", settings=given))
            results.setdefault(name, []).append(action_errors(Run.open(path)).summary())
    (options.out / "held-out.json").write_text(json.dumps(results, indent=2))
    print_tables(results)


def print_tables(results: dict[str, list[dict[str, Any]]]) -> None:
    def mean(of: list[dict[str, Any]], predictor: str) -> float:
        return float(np.mean([each["relative_error"][predictor]["mean"] for each in of]))

    print("| episodes: what it sees | held out, steps | policy per seed | policy | hold | last | mean |")
    print("|---|---|---|---|---|---|---|")
    for name, each in results.items():
        held = f"{each[0]['episodes']}, {np.mean([one['steps'] for one in each]):.0f}"
        seeds = ", ".join(f"{one['relative_error']['policy']['mean']:.3f}" for one in each)
        print(f"| {name} | {held} | {seeds} | " + " | ".join(f"{mean(each, p):.3f}" for p in PREDICTORS) + " |")
    print("\n| joint | spread | " + " | ".join([*results, *(f"{p} (of 100)" for p in PREDICTORS[1:])]) + " |")
    print("|---" * (len(results) + len(PREDICTORS) + 1) + "|")
    first = next(iter(results.values()))
    for index, entry in enumerate(first[0]["entries"]):
        joint = [np.mean([one["entries"][index]["policy"] for one in each]) for each in results.values()]
        joint += [np.mean([one["entries"][index][p] for one in first]) for p in PREDICTORS[1:]]
        spread = np.mean([one["entries"][index]["spread"] for one in first])
        print(f"| {entry['name']} | {spread:.3f} | " + " | ".join(f"{value:.4f}" for value in joint) + " |")


if __name__ == "__main__":
    main()
