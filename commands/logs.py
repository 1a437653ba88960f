"""Commands about logs: importing, looking, recording, exporting, compacting."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from commands.common import Add, Result, bar, count, note, quality_range, return_range, size, task_of
from episodes.errors import InputError


def add(command: Add) -> None:
    """Add these commands to the command line."""
    sub = command("import", _import, "Bring logs of a known format into a store.")
    sub.add_argument("source", type=Path, metavar="SRC")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("--task", default="", metavar="TEXT", help="what was to be done, in words")
    sub.add_argument("--contract", type=Path, metavar="FILE", help="names, units and limits for the source's numbers")
    sub.add_argument(
        "--refuse-repeated",
        action="store_true",
        help="import nothing where the store has an episode of SRC already (default: only the new ones)",
    )
    cameras = sub.add_mutually_exclusive_group()
    cameras.add_argument("--camera", action="append", metavar="NAME", help="only these cameras (default: all)")
    cameras.add_argument("--no-camera", action="store_true")
    sub.add_argument("--image-size", type=size, metavar="HxW", help="resize frames (default: as they are)")
    sub.add_argument("--namespace", default="", help="of the topics in a ROS 2 bag")
    sub.add_argument("--place", choices=["real", "sim"], help="where a ROS 2 bag was recorded (default: by its topics)")

    sub = command("inspect", _inspect, "What a store holds, what is wrong in it, and what it is good for.")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("--html", type=Path, metavar="FILE", help="look at the pictures, too, and write a page")
    sub.add_argument("--reference", type=Path, metavar="STORE", help="what SACo is relative to (default: itself)")
    sub.add_argument(
        "--return-range",
        type=return_range,
        metavar="LOW:HIGH",
        help="returns of a poor policy and an expert, which TQ is relative to (default: its worst and best episode); "
        "--return-range=LOW:HIGH where LOW is negative",
    )

    sub = command("collect", _collect, "Record episodes in simulation.")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("--task", required=True)
    sub.add_argument("--operator", default="scripted", help="scripted, random, layouts (moved by hand), or a RUN")
    sub.add_argument("--episodes", type=count, default=100)
    sub.add_argument(
        "--quality", type=quality_range, default=(0.0, 1.0), metavar="LOW:HIGH", help="of the scripted operator"
    )
    sub.add_argument("--camera", action="append", default=[], metavar="NAME")
    sub.add_argument("--image-size", type=size, metavar="HxW")
    sub.add_argument("--gap")
    sub.add_argument("--seed", type=int, default=0)

    sub = command("export", _export, "Write a store's episodes in another project's format.")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("out", type=Path, metavar="OUT", help="the new file (robomimic) or folder (lerobot)")
    sub.add_argument("--format", required=True, metavar="NAME", help="robomimic or lerobot")
    sub.add_argument(
        "--labels", default="logged", metavar="NAME", help="whose rewards and successes go out (default: the source's)"
    )
    sub.add_argument("--video", action="store_true", help="lerobot: mp4 instead of PNG; smaller, and not to the bit")

    sub = command("compact", _compact, "Free what a store's old versions take; what runs used stays.")
    sub.add_argument("store", type=Path, metavar="STORE")


def _import(options: argparse.Namespace) -> Result:
    from episodes.contract import read_contract
    from episodes.importers import open_source
    from episodes.importing import import_into
    from robot.contract_file import is_robot_contract

    if options.contract is not None and is_robot_contract(options.contract):
        return _import_bag(options)
    if options.namespace or options.place:
        raise InputError("--namespace and --place are for ROS 2 bags, which need a robot's contract: --contract FILE")
    cameras = () if options.no_camera else options.camera
    contract = read_contract(options.contract) if options.contract else None
    source = open_source(options.source, task=options.task, cameras=cameras, image_size=options.image_size)
    progress = bar("episodes", len(source))
    result = import_into(source, options.store, progress, contract, refuse_repeated=options.refuse_repeated)
    return _imported(options, source, result)


def _import_bag(options: argparse.Namespace) -> Result:
    from episodes.importing import import_into
    from robot.bag_import import BagSource
    from robot.contract_file import read_robot_contract

    if options.image_size is not None:
        raise InputError("--image-size: a robot's contract says how large its cameras' pictures are")
    source = BagSource(
        options.source,
        read_robot_contract(options.contract),
        task=options.task,
        namespace=options.namespace,
        cameras=() if options.no_camera else options.camera,
        place=options.place,
    )
    source.progress = bar("messages", source.message_count)
    result = import_into(source, options.store, refuse_repeated=options.refuse_repeated)
    document, text = _imported(options, source, result)
    lines = source.seen.lines()
    return {**document, "seen": lines}, "\n".join([text, *(f"  {line}" for line in lines)])


def _imported(options: argparse.Namespace, source: Any, result: Any) -> tuple[dict[str, Any], str]:
    """What an import did, as a document and in words."""
    lines = [f"{options.source} is {source.format}"]
    lines += [f"  left out {each['episode']}: {each['reason']}" for each in result.left_out]
    if source.ignored:
        lines.append(f"  not imported: {', '.join(source.ignored)}")
    there = f", {result.already_there} were there already" if result.already_there else ""
    lines.append(
        f"{options.store}: {result.episodes} episodes, {result.steps} steps, {result.transitions} transitions "
        f"imported, {len(result.left_out)} left out{there}"
    )
    return dataclasses.asdict(result), "\n".join(lines)


def _inspect(options: argparse.Namespace) -> Result:
    from episodes.inspect import inspect_store

    if options.html is None:
        inspection = inspect_store(options.store, reference=options.reference, return_range=options.return_range)
        return inspection.document, inspection.text
    from episodes.quality.page import write_page

    if options.html.is_dir() or not options.html.parent.is_dir():
        raise InputError(f"--html {options.html}: expected a file in a folder that exists")
    inspection = inspect_store(
        options.store,
        pictures=True,
        reference=options.reference,
        return_range=options.return_range,
        progress=bar("episodes"),
    )
    write_page(inspection, options.html)
    document = {**inspection.document, "html": str(options.html)}
    return document, f"{inspection.text}\npage         {options.html}"


def _collect(options: argparse.Namespace) -> Result:
    from episodes.store import open_or_create
    from finetune.evaluate import check_fits
    from finetune.online import seeds_of_collection
    from finetune.run import Run
    from policies.policy import Policy
    from sim.collect import collect
    from sim.layouts import check_layouts, layout_episodes
    from sim.operators import make_operator

    by_hand = options.operator == "layouts"
    is_run = Path(options.operator).is_dir()
    policy = Policy.load(Run.open(Path(options.operator)).last, deterministic=False) if is_run else None
    task = task_of(options, options.camera, options.image_size or (84, 84))
    # Whatever can be refused is refused before the store is made.
    if by_hand:
        check_layouts(task)
    elif policy is None:
        make_operator(options.operator, task)
    elif policy.contract is not None:
        check_fits(policy.contract, policy.camera, task)
    seeds_of_collection(options.seed, options.episodes)
    store = open_or_create(options.store, task.contract)
    before = store.snapshot().episodes
    seeds = seeds_of_collection(options.seed, before + options.episodes)[before:]
    if by_hand:
        episodes = layout_episodes(task, seeds)
    else:
        episodes = collect(
            task,
            lambda quality: policy or make_operator(options.operator, task, quality),
            seeds,
            quality=options.quality,
            seed=options.seed,
        )
    steps = successes = 0
    for episode in bar("episodes", len(seeds))(episodes):
        store.append([episode])
        steps += episode.steps
        successes += bool(episode.success is not None and episode.success.any())
    store.flush()
    document = {"episodes": options.episodes, "steps": steps, "successes": successes}
    return document, f"{options.store}: {options.episodes} episodes, {steps} steps collected, {successes} successes"


def _export(options: argparse.Namespace) -> Result:
    from episodes.exporting import export_store

    result = export_store(
        options.store,
        options.out,
        options.format,
        labels=options.labels,
        video=options.video,
        tell=lambda line: note(f"left behind: {line}"),
        progress=bar("episodes"),
    )
    return dataclasses.asdict(result), (
        f"{options.out}: {result.episodes} episodes, {result.steps} steps written for {result.format}"
    )


def _compact(options: argparse.Namespace) -> Result:
    from episodes.store import Store

    freed = Store.open(options.store).collect_garbage()
    return {"freed_bytes": freed}, f"{options.store}: {freed / 1e6:.1f} MB freed"
