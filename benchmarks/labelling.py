"""What labels are worth that were made by looking: judges, reward models, success classifiers, and what is learned.

    python -m benchmarks.labelling lift --out runs/labelling       judges and classifiers on Lift, then policies
    python -m benchmarks.labelling pusht --out runs/labelling      judges on Push-T's human demonstrations
    python -m benchmarks.labelling planted                         a planted order under wrong answers
    python -m benchmarks.labelling g1 --out runs/labelling         a real robot's log, end to end
    python -m benchmarks.labelling speed --out runs/labelling      labelling beside the bare encoder

The vision-language model is the adapted one: a small model trained on captioned renderings of layouts and episodes of
their own. A control is trained on the same frames with their captions dealt out at random. Everything is resumable:
what is in --out is not made again.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.learning import SEEDS, Method, Study, run_study
from episodes.encoders import load_encoder
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.files import write_whole
from episodes.importers import open_source
from episodes.importing import import_into
from episodes.store import Store
from episodes.vision_language import import_beside_torchvision
from finetune.online import seeds_of_collection
from rewards.adapt import AdaptConfig, adapt
from rewards.captions import read_captions, write_captions
from rewards.inputs import Table
from rewards.label import LabelConfig, label
from rewards.marks import Marks, marks_from
from rewards.reward_model import RewardConfig, RewardEnsemble, fit, scores
from rewards.settings import label_config
from sim.base import Task
from sim.captions import captions
from sim.collect import collect
from sim.labels import label_with_env
from sim.layouts import layout_episodes
from sim.operators import make_operator
from sim.task import make_task

LIFT, LIFT_SHAPED = "lift-quick:hold=4", "lift-quick:hold=4,reward=shaped"
"""The robot's recording goes on for a moment after the task is done, as people's recordings do."""
LIFT_TEXT, LIFT_BASELINE = "lift the red cube off the table", "the robot arm is away from the cube"
PUSHT_TEXT, PUSHT_BASELINE = "push the T-shaped block onto the T-shaped target", "the grey block is far from the target"
BARE_FRAMES = 4096
"""That the bare encoder is timed on."""
SUCCESSES, FAILURES = 10, 20
"""Episodes that are marked."""
G1_TEXT = "pick up the bottle"
SEEN = "iql, success classifier"
"""IQL whose only reward is what the success classifier saw."""


def lift_store(path: Path) -> None:
    """100 episodes by the scripted operator with one camera, quality uniform from [0, 1]; true rewards of two kinds."""
    task = make_task(LIFT, cameras=("agentview",))
    store = Store.create(path, task.contract)
    for episode in collect(task, lambda q: make_operator("scripted", task, q), seeds_of_collection(0, 100)):
        store.append([episode])
    label_with_env(store, task, "env")
    label_with_env(store, make_task(LIFT_SHAPED), "shaped")


def lift_frames(path: Path) -> None:
    """150 other episodes, to be captioned."""
    task = make_task(LIFT, cameras=("agentview",))
    store = Store.create(path, task.contract)
    for episode in collect(task, lambda q: make_operator("scripted", task, q), seeds_of_collection(40, 150)):
        store.append([episode])


def pusht_store(path: Path) -> None:
    """The 206 human demonstrations with their pictures; coverage as the true reward."""
    folder = Path(os.environ.get("FIRSTHAND_DATA", "../shared/data"))
    import_into(open_source(folder / "pusht" / "pusht_cchi_v7_replay.zarr"), path)
    label_with_env(Store.open(path), make_task("pusht"), "shaped")


def pusht_part(path: Path) -> None:
    """60 of them, for encoders that take their time."""
    folder = Path(os.environ.get("FIRSTHAND_DATA", "../shared/data"))
    source = open_source(folder / "pusht" / "pusht_cchi_v7_replay.zarr")
    store = Store.create(path, source.contract)
    for _, episode in islice(source.episodes(), 60):
        assert isinstance(episode, Episode)
        store.append([episode])


def pusht_frames(path: Path) -> None:
    """160 made-up layouts, to be captioned."""
    task = make_task("pusht", cameras=("image",), image_size=(96, 96))
    store = Store.create(path, task.contract)
    for episode in layout_episodes(task, seeds_of_collection(40, 160)):
        store.append([episode])


def g1_store(path: Path) -> None:
    """The 12 episodes of a Unitree G1 that have their video."""
    folder = Path(os.environ.get("FIRSTHAND_DATA", "../shared/data"))
    import_into(open_source(folder / "g1_bottle", task=G1_TEXT, image_size=(120, 160)), path)


def made(path: Path, make: Callable[[Path], None]) -> Store:
    """The store at a path; what is there is whole, because it gets its name when it is."""
    if not path.exists():
        unfinished = path.with_name(f"{path.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        make(unfinished)
        unfinished.rename(path)
    return Store.open(path)


def adapted(folder: Path, frames: Callable[[Path], None], task: Task, camera: str, *, shuffle: bool) -> Path:
    """The model, or its control, trained on captioned frames of its own."""
    model = folder / ("control" if shuffle else "model")
    if not model.exists():
        snapshot = made(folder / "frames", frames).snapshot()
        file = folder / "captions.jsonl"
        write_captions(file, snapshot, captions(task, snapshot.column("state"), np.random.default_rng(0)))
        rows, texts = read_captions(file, snapshot)
        found = adapt(snapshot, camera, rows, texts, model, AdaptConfig(shuffle=shuffle))
        print(f"{model.name}: caption accuracy {found['caption_accuracy']:.3f}", flush=True)
    return model


def labelled(store: Store, name: str, config: LabelConfig, marks: Marks | None, truth: str | None) -> dict[str, Any]:
    """The document of a labelling, made or read again."""
    if name not in store.snapshot().label_names:
        label(store, name, config, marks=marks, truth=truth)
    return json.loads((store.path / "labellers" / name / "evidence.json").read_text())["document"]


def lift_marks(store: Store, seed: int) -> Marks:
    """10 successes and 20 failures that a person marked, others for each seed."""
    snapshot = store.snapshot()
    order = np.random.default_rng([seed, 17]).permutation(snapshot.episodes)
    return marks_from(snapshot, snapshot.labels("env"), SUCCESSES, FAILURES, order.tolist())


def config_for(
    judge: str,
    text: str,
    baseline: str,
    seed: int,
    *,
    model: Path | None = None,
    encoder: str | None = None,
    **more: Any,
) -> LabelConfig:
    flags = {"task": text, "judge": judge, "seed": seed, **more}
    if judge == "clip":
        flags |= {"model": str(model), "baseline": baseline}
    else:
        flags["encoder"] = encoder
    return label_config(flags, None, (), marked="shape" in more)


def judges(store: Store, folder: Path, text: str, baseline: str, models: dict[str, Path]) -> str:
    """Every judge that can run here, three seeds each: Markdown."""
    lines = [
        "| judge | unsure | right, by quarter of the true difference | right | model, held out | Spearman, held out |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("env", "clip", "control", "progress"):
        documents = []
        for seed in SEEDS:
            judge = "clip" if name == "control" else name
            encoder = f"open_clip:{models['clip']}"
            config = config_for(judge, text, baseline, seed, model=models.get(name), encoder=encoder)
            # A judge that is sure of hardly anything leaves nothing to learn from.
            with suppress(InputError):
                documents.append(labelled(store, f"judge-{name}-{seed}", config, None, "shaped"))
        cells = _judged(documents) if len(documents) == len(SEEDS) else "decides too few pairs to learn from | | | |"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _judged(documents: list[dict[str, Any]]) -> str:
    def mean(key: str) -> float:
        return statistics.mean(document[key] for document in documents)

    quarters = [
        statistics.mean(document["judge_by_difference"][number]["accuracy"] for document in documents)
        for number in range(4)
    ]
    unsure = statistics.mean(document["unsure"] / document["pairs"] for document in documents)
    each = ", ".join(f"{document['spearman']:.2f}" for document in documents)
    return " | ".join(
        [
            f"{unsure:.1%}",
            ", ".join(f"{value:.3f}" for value in quarters),
            f"{mean('accuracy'):.3f}",
            f"{mean('model_accuracy'):.3f}",
            f"{mean('spearman'):.2f} ({each})",
        ]
    )


def make_sparse_labels(store: Store, model: Path, seed: int) -> dict[str, Any]:
    """The label set `sparse-SEED`: the success classifier's verdicts alone."""
    config = config_for("clip", LIFT_TEXT, LIFT_BASELINE, seed, model=model, shape="sparse")
    return labelled(store, f"sparse-{seed}", config, lift_marks(store, seed), "shaped")


def make_labels(store: Store, model: Path) -> list[dict[str, Any]]:
    """Label sets for every seed and every way in which they can meet the learner."""
    documents = []
    for seed in SEEDS:
        marks = lift_marks(store, seed)
        documents.append(make_sparse_labels(store, model, seed))
        for shape in ("potential", "bonus", "as_is"):
            config = config_for("clip", LIFT_TEXT, LIFT_BASELINE, seed, model=model, shape=shape)
            documents.append(labelled(store, f"{shape}-{seed}", config, marks, "shaped"))
        config = config_for("clip", LIFT_TEXT, LIFT_BASELINE, seed, model=model, shape="as_is", method="score")
        documents.append(labelled(store, f"score-{seed}", config, marks, "shaped"))
    return documents


def classifiers(documents: list[dict[str, Any]]) -> str:
    lines = [
        "| seed | unmarked episodes | frames without success called one | success frames missed "
        "| failures called a success | successes missed | called early |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed in SEEDS:
        found = next(d for d in documents if d["labels"] == f"sparse-{seed}")["success"]
        failures = found["episodes"] - found["successes"]
        lines.append(
            f"| {seed} | {found['episodes']} | {found['false_positive_rate']:.2%} of {found['negative_frames']} "
            f"| {found['miss_rate']:.1%} of {found['positive_frames']} | {found['false_successes']} of {failures} "
            f"| {found['missed_successes']} of {found['successes']} | {found['early_successes']} |"
        )
    return "\n".join(lines)


def policies(store_path: Path) -> Study:
    """BC, and IQL on the true success and on labels that were made by looking."""
    looked = {
        SEEN: "sparse",
        "iql, potential": "potential",
        "iql, bonus": "bonus",
        "iql, as it is": "as_is",
        "iql, direct score": "score",
    }
    return Study(
        task="lift-quick",
        measure="success",
        evaluation_episodes=100,
        make_store=lambda path: path.symlink_to(store_path.resolve()),
        methods={
            "bc": Method("bc", {"steps": 15_000}, preset="sparse"),
            "iql, true success": Method("iql", {"steps": 15_000}, preset="sparse"),
            **{
                name: Method("iql", {"steps": 15_000, "labels": f"{labels}-{{seed}}"}, preset="labelled")
                for name, labels in looked.items()
            },
        },
        comparisons=tuple((name, other) for name in looked for other in ("bc", "iql, true success")),
    )


def planted() -> str:
    """A known order of moments, 2,000 pairs with a fifth answered wrongly, judged on moments never asked about."""
    orders: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "linear in 6 numbers": lambda x: x @ np.linspace(-1, 1, x.shape[1]),
        "distance to a point, of 3 numbers among 6": lambda x: -np.linalg.norm(x[:, :3] - 1, axis=1),
    }
    lines = ["| order | wrong answers | held-out pairs right, per seed |", "|---|---|---|"]
    for name, order in orders.items():
        for wrong in (0.0, 0.2):
            found = [_planted(order, wrong, seed) for seed in SEEDS]
            lines.append(f"| {name} | {wrong:.0%} | {', '.join(f'{value:.3f}' for value in found)} |")
    return "\n".join(lines)


def _planted(order: Callable[[np.ndarray], np.ndarray], wrong: float, seed: int) -> float:
    rng = np.random.default_rng([seed, 23])
    moments = rng.normal(size=(8000, 6)).astype(np.float32)
    true, table = order(moments), Table(moments)
    pairs = rng.integers(0, 4000, (2000, 2))
    better = (true[pairs[:, 1]] > true[pairs[:, 0]]) ^ (rng.random(2000) < wrong)
    config = RewardConfig(inputs="state", seed=seed)
    ensemble = RewardEnsemble(config, table.shape, table.mean, table.std)
    fit(ensemble, table, pairs, better, config)
    value = scores(ensemble, table, np.arange(8000)).mean(0)
    unseen = rng.integers(4000, 8000, (4000, 2))
    right = (value[unseen[:, 1]] > value[unseen[:, 0]]) == (true[unseen[:, 1]] > true[unseen[:, 0]])
    return float(right.mean())


def g1(folder: Path) -> str:
    """Time as the judge, ImageNet features, no truth: how well the score follows time in episodes never asked about."""
    store = made(folder / "store", g1_store)
    lines = [
        "| seed | pairs | agreement with answers | Spearman of reward and time, held out | seconds |",
        "|---|---|---|---|---|",
    ]
    for seed in SEEDS:
        config = config_for("progress", G1_TEXT, "", seed, encoder="efficientnet_lite0")
        found = labelled(store, f"progress-{seed}", config, None, None)
        cells = (f"{found['agreement']:.3f}", f"{found['spearman_time']:.2f}", f"{found['seconds']:.0f}")
        lines.append(f"| {seed} | {found['pairs']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed(folder: Path) -> str:
    """Labelling frames from nothing, between two timings of the bare encoder on frames in memory."""
    lines = [
        "| encoder | frames | bare, before and after [1/s] | labelling [1/s] | ratio | another text, again [s] |",
        "|---|---|---|---|---|---|",
    ]
    quick = made(folder / "store", pusht_store)
    lines.append(f"| EfficientNet-Lite0 | {_timed(quick, 'efficientnet_lite0', BARE_FRAMES)} |")
    part = made(folder / "part", pusht_part)
    lines.append(f"| ViT-B-32 | {_timed(part, untrained_clip(folder), BARE_FRAMES // 4)} |")
    return "\n".join(lines)


def untrained_clip(folder: Path) -> str:
    """CLIP's most used size with random weights, which look as long as trained ones."""
    file = folder / "ViT-B-32.safetensors"
    if not file.exists():
        open_clip = import_beside_torchvision("open_clip")
        save_file(open_clip.create_model("ViT-B-32").state_dict(), file)
    return f"open_clip:ViT-B-32:{file.resolve()}"


def _timed(store: Store, name: str, bare_frames: int) -> str:
    encoder = load_encoder(name, fast=True)
    frames = store.snapshot().images("image", 0, bare_frames)

    def bare() -> float:
        began = time.monotonic()
        encoder.encode(frames)
        return len(frames) / (time.monotonic() - began)

    config = config_for("progress", PUSHT_TEXT, "", 0, encoder=name)
    before = bare()
    whole = label(store, f"timed-{time.time_ns()}", config)["frames_per_second"]
    after = bare()
    other = replace(config, labeller=replace(config.labeller, task="push the block away from its target"))
    again = label(store, f"again-{time.time_ns()}", other)["seconds"]
    count = store.snapshot().observations
    return f"{count} | {before:.1f}, {after:.1f} | {whole:.1f} | {2 * whole / (before + after):.3f} | {again:.1f}"


def seen_policies(folder: Path) -> Path:
    """A folder with a run per seed, `SEEN-SEED`: IQL on what success classifiers saw, and on nothing else."""
    store = made(folder / "store", lift_store)
    model = adapted(folder, lift_frames, make_task(LIFT), "agentview", shuffle=False)
    for seed in SEEDS:
        make_sparse_labels(store, model, seed)
    run_study(policies(store.path), folder / "policies", [SEEN])
    return folder / "policies"


def lift(folder: Path) -> str:
    store = made(folder / "store", lift_store)
    task = make_task(LIFT)
    models = {
        name: adapted(folder, lift_frames, task, "agentview", shuffle=name == "control") for name in ("clip", "control")
    }
    parts = [judges(store, folder, LIFT_TEXT, LIFT_BASELINE, models)]
    parts.append(classifiers(make_labels(store, models["clip"])))
    print("\n\n".join(parts), flush=True)
    parts.append(run_study(policies(store.path), folder / "policies"))
    return "\n\n".join(parts)


def pusht(folder: Path) -> str:
    store = made(folder / "store", pusht_store)
    task = make_task("pusht")
    models = {
        name: adapted(folder, pusht_frames, task, "image", shuffle=name == "control") for name in ("clip", "control")
    }
    return judges(store, folder, PUSHT_TEXT, PUSHT_BASELINE, models)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["lift", "pusht", "planted", "g1", "speed"])
    parser.add_argument("--out", type=Path, default=Path("runs/labelling"))
    options = parser.parse_args()
    folder = options.out / options.part
    folder.mkdir(parents=True, exist_ok=True)
    if options.part == "planted":
        found = planted()
    else:
        found = {"lift": lift, "pusht": pusht, "g1": g1, "speed": speed}[options.part](folder)
    write_whole(folder / "table.md", found + "\n")
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
