"""Commands about labels: making them, and making what makes them."""

import argparse
from pathlib import Path

from commands.common import Add, Result, bar, count, note, seed
from episodes.errors import InputError


def add(command: Add) -> None:
    """Add these commands to the command line."""
    sub = command("label", _label, "Make a label set: rewards, or costs, for every step.")
    sub.add_argument("store", type=Path, metavar="STORE")
    of_task = "what is to be done, in one sentence; for env and constraints, the simulated task"
    sub.add_argument("--task", help=of_task)
    judges = "clip: a vision-language model; chat: an endpoint; progress: time; env: the simulator (default)"
    sub.add_argument("--judge", choices=["clip", "chat", "progress", "env"], help=judges)
    methods = (
        "preference: a model of the judge's preferences (default); score: its own; success: only the classifier; "
        "constraints: costs, of --config FILE, --contract FILE or the simulated --task"
    )
    sub.add_argument("--method", choices=["preference", "score", "success", "env", "constraints"], help=methods)
    sub.add_argument("--contract", type=Path, metavar="FILE", help="constraints: the limits in a robot's contract")
    sub.add_argument("--rewards", metavar="NAME", help="constraints: whose rewards go along (default: logged)")
    sub.add_argument(
        "--penalty", type=float, metavar="X", help="constraints: taken from the reward of what violates (default: 0)"
    )
    sub.add_argument("--model", help="clip: MODEL:CHECKPOINT or an adapted folder; chat: the endpoint's name for it")
    sub.add_argument("--url", help="chat: the endpoint, for example http://127.0.0.1:8000/v1")
    sub.add_argument("--baseline", metavar="TEXT", help="clip: what the scene looks like while nothing is done yet")
    sub.add_argument("--marks", type=Path, metavar="FILE", help="successes and failures, for the success classifier")
    sub.add_argument("--shape", help="as_is, potential (default with marks), bonus, sparse")
    sub.add_argument("--pairs", type=count, help="put to the judge (default: 2000)")
    sub.add_argument("--budget", type=count, help="chat: most requests")
    sub.add_argument("--camera", action="append", metavar="NAME", help="only these cameras (default: all)")
    sub.add_argument("--encoder", metavar="NAME", help="whose features are looked at (default: the judge's)")
    sub.add_argument("--truth", metavar="NAME", help="a label set with true rewards, to measure against")
    sub.add_argument("--answers", type=Path, metavar="FILE", help="where answers are kept (default: in the store)")
    sub.add_argument("--name", help="of the label set (default: env, constraints, or method and judge)")
    sub.add_argument("--seed", type=seed)
    sub.add_argument("--config", type=Path, metavar="FILE", help="YAML, as in docs/labelling.md")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")

    sub = command("mark", _mark, "Mark episodes by the success that a label set knows, as a person would by looking.")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("--labels", required=True, metavar="NAME", help="a label set with success, such as logged or env")
    sub.add_argument("--successes", type=count, default=10)
    sub.add_argument("--failures", type=count, default=20)
    sub.add_argument("--out", type=Path, required=True, metavar="FILE")

    sub = command("caption", _caption, "Say of every frame of a simulated store, in a sentence, what it shows.")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("--task", required=True, help="the simulated task: lift, lift-quick or pusht")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE")
    sub.add_argument("--seed", type=seed, default=0)

    sub = command("adapt", _adapt, "Adapt a vision-language model to captioned frames, or train a small one.")
    sub.add_argument("store", type=Path, metavar="STORE")
    sub.add_argument("--captions", type=Path, required=True, metavar="FILE")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the adapted model")
    sub.add_argument("--model", help="what to begin with, MODEL:CHECKPOINT (default: a small one, from nothing)")
    sub.add_argument("--camera", metavar="NAME")
    sub.add_argument("--steps", type=count)
    sub.add_argument("--seed", type=seed)
    sub.add_argument("--config", type=Path, metavar="FILE")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")


def _label(options: argparse.Namespace) -> Result:
    from episodes.store import Store

    if options.method == "constraints":
        return _label_with_constraints(options)
    if options.task is None:
        raise InputError("label: expected --task: what is to be done, in one sentence; for env, the simulated task")
    for flag in ("contract", "rewards", "penalty"):
        if getattr(options, flag) is not None:
            raise InputError(f"label: --{flag} is for --method constraints; leave it out")
    store = Store.open(options.store)
    if options.judge in (None, "env") and options.method in (None, "env") and options.config is None:
        from sim.labels import label_with_env
        from sim.task import make_task

        _refuse_beside_env(options)
        document = label_with_env(store, make_task(options.task), options.name or "env")
        return document, (
            f"label set {document['labels']!r}: {document['episodes']} episodes labelled, {document['uncovered']} not "
            f"covered, {document['frames_per_second']:.0f} states/s; mean return {document['return_mean']:.3f}, "
            f"success in {document['success_rate']:.0%} of the episodes"
        )
    if options.method == "env":
        raise InputError(f"method 'env' is judge 'env' alone, without a file; the judge is {options.judge!r}")
    from rewards.label import label
    from rewards.marks import read_marks
    from rewards.settings import label_config
    from rewards.summary import text_of

    keys = (
        "task",
        "judge",
        "method",
        "camera",
        "model",
        "url",
        "baseline",
        "shape",
        "pairs",
        "budget",
        "encoder",
        "seed",
    )
    flags = {key: getattr(options, key) for key in keys}
    config = label_config(flags, options.config, options.set, marked=options.marks is not None)
    document = label(
        store,
        options.name or f"{config.method}-{config.judge}",
        config,
        marks=None if options.marks is None else read_marks(options.marks),
        truth=options.truth,
        answers=options.answers,
        bar=bar,
        say=note,
    )
    return document, text_of(document)


def _label_with_constraints(options: argparse.Namespace) -> Result:
    from episodes.constraints import read_constraints
    from episodes.cost_labels import label_with_constraints
    from episodes.store import Store

    given = [flag for flag in ("config", "contract", "task") if getattr(options, flag) is not None]
    if len(given) != 1:
        raise InputError(
            "label --method constraints: expected one of --config FILE (constraints), --contract FILE (a robot's) and "
            f"--task TASK (a simulated one), got {' and '.join(f'--{flag}' for flag in given) or 'none'}"
        )
    ours = ("command", "json", "store", "method", "name", "rewards", "penalty", *given)
    beside = [key for key, value in vars(options).items() if key not in ours and value not in (None, [])]
    if beside:
        raise InputError(f"label --method constraints: --{beside[0]} decides nothing here; leave it out")
    store, left = Store.open(options.store), []
    if options.config is not None:
        constraints = read_constraints(options.config)
    elif options.contract is not None:
        from robot.constraints import constraints_of
        from robot.contract_file import read_robot_contract

        constraints, left = constraints_of(read_robot_contract(options.contract))
    else:
        from sim.labels import check_states
        from sim.task import make_task

        task = make_task(options.task)
        if task.constraints is None:
            raise InputError(f"task {task.name!r} has no constraints of its own; say which in a file: --config FILE")
        check_states(store.snapshot(), task)
        constraints = task.constraints
    document, text = label_with_constraints(
        store, constraints, options.name or "constraints", options.rewards, options.penalty or 0.0
    )
    lines = [text, *(f"  not a constraint: {each}" for each in left)]
    return {**document, "not_constrained": left}, "\n".join(lines)


def _refuse_beside_env(options: argparse.Namespace) -> None:
    """The simulator's reward is looked up: what decides how others judge would be ignored."""
    ours = ("command", "json", "store", "task", "judge", "method", "name")
    beside = [key for key, value in vars(options).items() if key not in ours and value not in (None, [])]
    if beside:
        raise InputError(
            f"label --judge env takes the simulator's reward as it is, without --{beside[0]}; "
            "to learn from preferences by the true reward, add --method preference"
        )


def _mark(options: argparse.Namespace) -> Result:
    from episodes.store import Store
    from rewards.marks import marks_from, write_marks

    snapshot = Store.open(options.store).snapshot()
    labels = snapshot.labels(options.labels)
    marks = marks_from(snapshot, labels, options.successes, options.failures, range(snapshot.episodes))
    write_marks(options.out, marks)
    document = {"successes": len(marks.successes), "failures": len(marks.failures), "file": str(options.out)}
    return document, f"{options.out}: {document['successes']} successes and {document['failures']} failures marked"


def _caption(options: argparse.Namespace) -> Result:
    import numpy as np

    from episodes.store import Store
    from rewards.captions import write_captions
    from sim.captions import captions
    from sim.labels import check_states
    from sim.task import make_task

    snapshot, task = Store.open(options.store).snapshot(), make_task(options.task)
    check_states(snapshot, task)
    texts = captions(task, snapshot.column("state"), np.random.default_rng(options.seed))
    write_captions(options.out, snapshot, texts)
    document = {"captions": len(texts), "sentences": len(set(texts)), "file": str(options.out)}
    return document, f"{options.out}: {len(texts)} captions, {document['sentences']} different ones"


def _adapt(options: argparse.Namespace) -> Result:
    from episodes.store import Store
    from episodes.typed import parse, parse_settings, read_yaml
    from rewards.adapt import AdaptConfig, adapt
    from rewards.captions import read_captions

    snapshot = Store.open(options.store).snapshot()
    flags = {key: getattr(options, key) for key in ("model", "steps", "seed") if getattr(options, key) is not None}
    file = read_yaml(options.config) if options.config else {}
    config = parse(AdaptConfig, {**file, **flags, **parse_settings(options.set)}, "adapt")
    rows, texts = read_captions(options.captions, snapshot)
    cameras = snapshot.contract.camera_names
    if options.camera is None and len(cameras) != 1:
        raise InputError(
            f"{options.store}: name one of its cameras with --camera: {', '.join(cameras) or 'it has none'}"
        )
    camera = options.camera or cameras[0]
    document = adapt(snapshot, camera, rows, texts, options.out, config, bar("updates", config.steps))
    accuracy = document["caption_accuracy"]
    found = "" if accuracy is None else f"; told a frame's caption from another in {accuracy:.0%} of held-out frames"
    return document, f"{options.out}: adapted model, {document['captions']} captions, {config.steps} updates{found}"
