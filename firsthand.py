"""The command line: parse, call one room, print."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from episodes.errors import InputError

# Networks of this size lose more to waiting threads than they gain: one is faster, and leaves cores to simulation.
os.environ.setdefault("OMP_NUM_THREADS", "1")

Result = tuple[dict[str, Any] | list[Any], str]
"""What a command has to say: as one JSON document, and to a person."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0; 2 where what was given cannot be used; 1 where the doctor misses what is needed."""
    options = _parser().parse_args(arguments)
    try:
        document, text = options.command(options)
        print(json.dumps(document, allow_nan=False) if options.json else text, flush=True)
    except InputError as error:
        print(f"firsthand: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"firsthand: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("firsthand: interrupted; what was complete is kept", file=sys.stderr)
        return 130
    return 1 if options.command is _doctor and not options.healthy else 0


def _import(options: argparse.Namespace) -> Result:
    from episodes.contract import read_contract
    from episodes.importers import open_source
    from episodes.importing import import_into

    cameras = () if options.no_camera else options.camera
    contract = read_contract(options.contract) if options.contract else None
    source = open_source(options.source, task=options.task, cameras=cameras, image_size=options.image_size)
    result = import_into(source, options.store, _bar("episodes", len(source)), contract)
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

    inspection = inspect_store(options.store)
    return inspection.document, inspection.text


def _label(options: argparse.Namespace) -> Result:
    from episodes.store import Store
    from sim.labels import label_with_env
    from sim.task import make_task

    document = label_with_env(Store.open(options.store), make_task(options.task), options.name)
    return document, (
        f"label set {document['labels']!r}: {document['episodes']} episodes labelled, {document['uncovered']} not "
        f"covered, {document['frames_per_second']:.0f} states/s; mean return {document['return_mean']:.3f}, "
        f"success in {document['success_rate']:.0%} of the episodes"
    )


def _pretrain(options: argparse.Namespace) -> Result:
    from finetune import pretrain

    if options.resume:
        _nothing_but_resume(options)
        result = pretrain.resume(options.run, _bar("updates"))
    else:
        if options.store is None:
            raise InputError("pretrain: expected STORE (only --resume does without)")
        result = pretrain.pretrain(options.store, options.run, _train_config(options), _bar("updates"))
    rate = "" if result.updates_per_second is None else f", {result.updates_per_second:.0f} updates/s"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items())
    return dataclasses.asdict(result), f"{result.run}: {result.steps} updates{rate}\n  {metrics}"


def _train_config(options: argparse.Namespace) -> Any:
    from episodes.typed import read_yaml
    from finetune.config import parse_settings, resolve

    flags = {
        key: getattr(options, key)
        for key in ("labels", "steps", "seed", "chunk", "camera", "encoder", "device")
        if getattr(options, key) is not None
    }
    file = read_yaml(options.config) if options.config else None
    return resolve(options.algorithm, options.preset, file, flags | parse_settings(options.set))


def _finetune(options: argparse.Namespace) -> Result:
    from episodes.typed import parse
    from finetune import online
    from finetune.config import parse_settings

    if options.resume:
        _nothing_but_resume(options)
        result = online.resume(options.run, _bar("episodes"))
    else:
        if options.parent is None or options.task is None:
            raise InputError("finetune: expected RUN and --task (only --resume does without)")
        given = {"task": options.task, "gap": options.gap, "episodes": options.episodes, "seed": options.seed}
        settings = {key: value for key, value in given.items() if value is not None} | parse_settings(options.set)
        config = parse(online.OnlineConfig, settings, "finetune")
        result = online.finetune(options.parent, options.run, config, _bar("episodes"))
    return dataclasses.asdict(result), (
        f"{result.run}: {result.episodes} episodes, {result.online_steps} steps; "
        f"success while learning {result.online_success_rate:.2f}, cumulative regret {result.cumulative_regret:.2f}"
    )


def _evaluate(options: argparse.Namespace) -> Result:
    from finetune.evaluate import check_fits, evaluate
    from finetune.report import row_of
    from finetune.run import Run
    from finetune.video import save_video
    from policies.policy import Policy

    run = Run.open(options.run)
    policy = Policy.load(run.last, deterministic=not options.stochastic)
    task = _task(options, () if policy.camera is None else (policy.camera,), policy.image_size)
    if policy.contract is not None:
        check_fits(policy.contract, policy.camera, task)
    name = "-".join(
        [
            task.name.replace(":", "-"),
            *(["stochastic"] if options.stochastic else []),
            *_words(options.gap),
            *([] if options.seed is None else [f"seed{options.seed}"]),
            str(options.episodes),
        ]
    )
    summary = evaluate(
        task,
        policy,
        options.episodes,
        **({} if options.seed is None else {"seed": options.seed}),
        videos=options.videos,
        on_video=lambda number, frames: save_video(run, f"{name}-{number}", frames, task.contract.rate),
        progress=_bar("episodes"),
    ).summary()
    run.save_evaluation(name, summary)
    row = row_of(str(options.run), summary)
    return {key: value for key, value in summary.items() if key != "per_episode"}, (
        f"{row.who} in {row.task}: {row.episodes} episodes, success {row.success}, "
        f"largest reward {row.best_reward}, return {row.returns}, length {row.length}"
    )


def _collect(options: argparse.Namespace) -> Result:
    from episodes.store import open_or_create
    from finetune.evaluate import check_fits
    from finetune.online import seeds_of_collection
    from finetune.run import Run
    from policies.policy import Policy
    from sim.collect import collect
    from sim.operators import make_operator

    is_run = Path(options.operator).is_dir()
    policy = Policy.load(Run.open(Path(options.operator)).last, deterministic=False) if is_run else None
    task = _task(options, options.camera, options.image_size or (84, 84))
    # Whatever can be refused is refused before the store is made.
    if policy is None:
        make_operator(options.operator, task)
    elif policy.contract is not None:
        check_fits(policy.contract, policy.camera, task)
    seeds_of_collection(options.seed, options.episodes)
    store = open_or_create(options.store, task.contract)
    before = store.snapshot().episodes
    seeds = seeds_of_collection(options.seed, before + options.episodes)[before:]
    episodes = collect(
        task,
        lambda quality: policy or make_operator(options.operator, task, quality),
        seeds,
        quality=options.quality,
        seed=options.seed,
    )
    steps = successes = 0
    for episode in _bar("episodes", len(seeds))(episodes):
        store.append([episode])
        steps += episode.steps
        successes += bool(episode.success is not None and episode.success.any())
    store.flush()
    document = {"episodes": options.episodes, "steps": steps, "successes": successes}
    return document, f"{options.store}: {options.episodes} episodes, {steps} steps collected, {successes} successes"


def _report(options: argparse.Namespace) -> Result:
    from finetune.report import write_report
    from finetune.run import Run

    file = write_report(Run.open(options.run))
    return {"report": str(file)}, str(file)


def _doctor(options: argparse.Namespace) -> Result:
    from episodes.doctor import checks, healthy

    found = checks()
    options.healthy = healthy(found)
    lines = []
    for check in found:
        lines.append(f"{'ok ' if check.ok else 'NOT'}  {check.name}: {check.detail}")
        if check.remedy:
            lines.append(f"       {check.remedy}")
    return [dataclasses.asdict(check) for check in found], "\n".join(lines)


def _demo(options: argparse.Namespace) -> Result:
    from finetune.demo import demo, free_folder

    report = demo(options.folder or free_folder(Path("runs")), lambda line: print(line, file=sys.stderr, flush=True))
    return {"report": str(report)}, f"report: {report}"


def _compact(options: argparse.Namespace) -> Result:
    from episodes.store import Store

    freed = Store.open(options.store).collect_garbage()
    return {"freed_bytes": freed}, f"{options.store}: {freed / 1e6:.1f} MB freed"


def _nothing_but_resume(options: argparse.Namespace) -> None:
    """Refuse settings that a resumed run would ignore: it goes on with those that it was begun with."""
    ours = ("command", "json", "resume", "run")
    beside = [key for key, value in vars(options).items() if key not in ours and value not in (None, [])]
    if beside:
        raise InputError(f"{options.run}: --resume goes on as the run was begun; leave out: {', '.join(beside)}")


def _task(options: argparse.Namespace, cameras: Iterable[str], image_size: tuple[int, int]) -> Any:
    from sim.task import make_task

    return make_task(options.task, cameras=tuple(cameras), image_size=image_size, gap=options.gap or None)


def _words(gap: str | None) -> list[str]:
    return [gap.replace("=", "").replace(",", "-")] if gap else []


def _bar(unit: str, total: int | None = None) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """A progress bar on stderr, as a wrapper of what is gone through."""
    from tqdm import tqdm

    return lambda items: tqdm(items, total=total, unit=f" {unit}", file=sys.stderr)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    try:
        size = int(height), int(width or height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected HEIGHTxWIDTH, for example 84x84") from None
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected sides of at least 1")
    return size


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        ends = float(low), float(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected LOW:HIGH or one number") from None
    if not 0 <= ends[0] <= ends[1] <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a range inside 0:1")
    return ends


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other refusal does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists what there is)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="firsthand", description="Real-robot offline-to-online learning.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], Result], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=run)
        sub.add_argument("--json", action="store_true", help="one JSON document on stdout and nothing else there")
        return sub

    sub = command("doctor", _doctor, "What is installed, and what to do about what is missing.")

    sub = command("import", _import, "Bring logs of a known format into a store.")
    sub.add_argument("source", type=Path, metavar="SRC")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("--task", default="", metavar="TEXT", help="what was to be done, in words")
    sub.add_argument("--contract", type=Path, metavar="FILE", help="names, units and limits for the source's numbers")
    cameras = sub.add_mutually_exclusive_group()
    cameras.add_argument("--camera", action="append", metavar="NAME", help="only these cameras (default: all)")
    cameras.add_argument("--no-camera", action="store_true")
    sub.add_argument("--image-size", type=_size, metavar="HxW", help="resize frames (default: as they are)")

    sub = command("inspect", _inspect, "What a store holds.")
    sub.add_argument("store", type=Path, metavar="STORE")

    sub = command("label", _label, "Make a label set: rewards for every step.")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("--judge", choices=["env"], default="env", help="env: the simulator's own reward")
    sub.add_argument("--task", required=True, help="the simulated task, for example lift-quick or pusht")
    sub.add_argument("--name", default="env", help="of the label set (default: env)")

    sub = command("pretrain", _pretrain, "Learn a policy offline.")
    sub.add_argument("store", type=Path, nargs="?", metavar="STORE")
    sub.add_argument("--run", type=Path, required=True, metavar="DIR")
    sub.add_argument("--algorithm", metavar="NAME", help="iql (default) or bc")
    sub.add_argument("--labels", metavar="NAME", help="label set (default: logged)")
    sub.add_argument("--preset", metavar="NAME", help="sparse, demonstrations, locomotion, antmaze, adroit")
    sub.add_argument("--config", type=Path, metavar="FILE", help="YAML, as in a run's config.yaml under train")
    sub.add_argument("--steps", type=int, help="updates")
    sub.add_argument("--chunk", type=int, help="actions chosen at a time")
    sub.add_argument("--camera", metavar="NAME", help="see this camera's frozen features beside the state")
    sub.add_argument("--encoder", metavar="NAME", help="efficientnet_lite0, or open_clip:MODEL:CHECKPOINT")
    sub.add_argument("--seed", type=int)
    sub.add_argument("--device", help="auto, cpu, cuda")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    sub.add_argument("--resume", action="store_true", help="go on with the run in DIR")

    sub = command("finetune", _finetune, "Go on learning online, in simulation, in this process.")
    sub.add_argument("parent", type=Path, nargs="?", metavar="RUN", help="a pretrained run")
    sub.add_argument("--run", type=Path, required=True, metavar="DIR", help="the new run")
    sub.add_argument("--task")
    sub.add_argument("--gap", help="what differs from the simulator, for example friction=0.3,delay_steps=1")
    sub.add_argument("--episodes", type=_count)
    sub.add_argument("--seed", type=int)
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    sub.add_argument("--resume", action="store_true", help="go on with the run in DIR")

    sub = command("evaluate", _evaluate, "How well a run's policy does, on fixed seeds.")
    sub.add_argument("run", type=Path, metavar="RUN")
    sub.add_argument("--task", required=True)
    sub.add_argument("--gap")
    sub.add_argument("--episodes", type=_count, default=50)
    sub.add_argument("--seed", type=int, help="of the first episode (default: 1000000)")
    sub.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mean")
    sub.add_argument("--videos", type=int, default=0, metavar="N", help="keep videos of the first N episodes")

    sub = command("collect", _collect, "Record episodes in simulation.")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("--task", required=True)
    sub.add_argument("--operator", default="scripted", help="scripted, random, or a RUN whose policy acts")
    sub.add_argument("--episodes", type=_count, default=100)
    sub.add_argument("--quality", type=_range, default=(0.0, 1.0), metavar="LOW:HIGH", help="of the scripted operator")
    sub.add_argument("--camera", action="append", default=[], metavar="NAME")
    sub.add_argument("--image-size", type=_size, metavar="HxW")
    sub.add_argument("--gap")
    sub.add_argument("--seed", type=int, default=0)

    sub = command("report", _report, "One HTML file: curves, evaluations, videos, configuration.")
    sub.add_argument("run", type=Path, metavar="RUN")

    sub = command("compact", _compact, "Free what a store's old versions take; what runs used stays.")
    sub.add_argument("store", type=Path, metavar="STORE")

    sub = command("demo", _demo, "The main job in simulation, end to end, in minutes.")
    sub.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="new or empty (default: runs/demo-N)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
