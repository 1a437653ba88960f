"""Uni-O4 against what it cloned, against IQL, against itself with the gate as published, and going on online.

    python -m benchmarks.uni_o4 linear-quadratic --out runs/uni_o4
    python -m benchmarks.uni_o4 hidden-velocity --out runs/uni_o4
    python -m benchmarks.uni_o4 halfcheetah --out runs/uni_o4

`linear-quadratic` has a best policy that is known. In `hidden-velocity` learners see nothing of the same cart but where
it is, and as many of those positions as their history is long. `halfcheetah` learns from somebody else's logs
(`FIRSTHAND_DATA`), and acts where they were made: under twice the usual gravity. Jobs, seeds and tables are those of
`learning.py`.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.learning import Method, Study, run_study
from episodes.errors import InputError
from episodes.importers import open_source
from episodes.importing import import_into
from episodes.store import Store
from finetune.online import seeds_of_collection
from sim.collect import collect
from sim.operators import make_operator
from sim.task import make_task


def linear_quadratic_store(path: Path) -> None:
    """100 episodes by the scripted operator, quality drawn uniformly from [0, 1]."""
    task = make_task("linear-quadratic")
    store = Store.create(path, task.contract)
    store.append(list(collect(task, lambda q: make_operator("scripted", task, q), seeds_of_collection(0, 100))))


def halfcheetah_store(path: Path) -> None:
    """The first 100,000 steps of an agent that learned HalfCheetah under twice the gravity."""
    folder = Path(os.environ.get("FIRSTHAND_DATA", "../shared/data"))
    import_into(open_source(folder / "cheetah_gravity2" / "replay_100k.npz", cameras=()), path)


_SMALL = {"labels": "logged", "device": "cpu"}
_CART = _SMALL | {"steps": 4_000, "hidden": [64, 64], "discount": 0.95}
_CART_MODEL = {"dynamics": {"epochs": 10}}
_FAST = _CART | {"steps": 6_000, "learning_rate": 1e-3}
"""Small differences of large numbers are to be learned."""
_BLIND = _FAST | {"state_entries": ["position"]}
_CHEETAH = _SMALL | {"steps": 5_000, "hidden": [128, 128]}
_CHEETAH_MODEL = {
    "dynamics": {"members": 4, "elites": 3, "hidden": [128, 128, 128], "epochs": 6, "batch_size": 512},
    "starts": 128,
    "rollout_steps": 20,
}
_ONLINE = {"episodes": 80, "evaluate_every": 20, "algorithm": "uni_o4", "learner": {"batch_steps": 500, "epochs": 5}}
COMPARISONS = (("uni_o4", "bc"), ("uni_o4", "iql"), ("uni_o4", "uni_o4 as published"))

STUDIES = {
    "linear-quadratic": Study(
        task="linear-quadratic",
        measure="returns",
        evaluation_episodes=100,
        make_store=linear_quadratic_store,
        methods={
            "bc": Method("bc", _CART),
            "iql": Method("iql", _CART),
            "uni_o4": Method("uni_o4", _CART | _CART_MODEL),
            "uni_o4 as published": Method("uni_o4", _CART | _CART_MODEL | {"guard": False}),
            "uni_o4-online": Method(parent="uni_o4", online=_ONLINE),
        },
        comparisons=(*COMPARISONS, ("uni_o4-online", "uni_o4")),
    ),
    "hidden-velocity": Study(
        task="linear-quadratic",
        measure="returns",
        evaluation_episodes=100,
        make_store=linear_quadratic_store,
        methods={
            "all is seen": Method("uni_o4", _FAST | _CART_MODEL),
            "history 1": Method("uni_o4", _BLIND | _CART_MODEL),
            "history 3": Method("uni_o4", _BLIND | _CART_MODEL | {"history": 3}),
            "iql, history 3": Method("iql", _BLIND | {"history": 3}),
            "history 3, online": Method(parent="history 3", online=_ONLINE),
        },
        comparisons=(
            ("history 3", "history 1"),
            ("history 3", "all is seen"),
            ("history 3", "iql, history 3"),
            ("history 3, online", "history 3"),
        ),
    ),
    "halfcheetah": Study(
        task="halfcheetah",
        gap="gravity=2",
        measure="returns",
        evaluation_episodes=20,
        make_store=halfcheetah_store,
        methods={
            "bc": Method("bc", _CHEETAH),
            "iql": Method("iql", _CHEETAH),
            "uni_o4": Method("uni_o4", _CHEETAH | _CHEETAH_MODEL),
            "uni_o4 as published": Method("uni_o4", _CHEETAH | _CHEETAH_MODEL | {"guard": False}),
        },
        comparisons=COMPARISONS,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[], help="these methods only")
    options = parser.parse_args()
    try:
        print(run_study(STUDIES[options.study], options.out / options.study, options.only))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
