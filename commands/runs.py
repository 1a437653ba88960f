"""Commands about runs: learning, evaluating, reporting, and all of it at once."""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from commands.common import Add, Result, bar, count, note, task_of
from episodes.errors import InputError

RULINGS = ("own", "alternative", "stop")
"""Of the feasibility filter; see `policies.feasibility.Ruling`."""
PERSON_EVERY = 20
"""Episodes without a reset after which a person looks after the robot; RoboFuME's authors did after 15 to 25."""


def add(command: Add) -> None:
    """Add these commands to the command line."""
    sub = command("pretrain", _pretrain, "Learn a policy offline.")
    sub.add_argument("store", type=Path, nargs="?", metavar="STORE")
    sub.add_argument("--run", type=Path, required=True, metavar="DIR")
    algorithms = "iql (default), famo2o, uni_o4, cal_ql, rlpd, fisor, iql_lagrangian, h2o, h2o_plus or bc"
    sub.add_argument("--algorithm", metavar="NAME", help=algorithms)
    sub.add_argument("--labels", metavar="NAME", help="label set (default: logged)")
    sub.add_argument("--preset", metavar="NAME", help="sparse, labelled, demonstrations, locomotion, antmaze, adroit")
    sub.add_argument("--config", type=Path, metavar="FILE", help="YAML, as in a run's config.yaml under train")
    sub.add_argument("--steps", type=int, help="updates")
    sub.add_argument("--chunk", type=int, help="actions chosen at a time")
    sub.add_argument("--camera", metavar="NAME", help="see this camera's frozen features beside the state")
    sub.add_argument("--encoder", metavar="NAME", help="efficientnet_lite0, or open_clip:MODEL:CHECKPOINT")
    sub.add_argument("--seed", type=int)
    sub.add_argument("--device", help="auto, cpu, cuda")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    sub.add_argument("--resume", action="store_true", help="go on with the run in DIR")

    sub = command("finetune", _finetune, "Go on learning online: in simulation in this process, or on the robot.")
    sub.add_argument("parent", type=Path, nargs="?", metavar="RUN", help="a pretrained run")
    sub.add_argument("--run", type=Path, metavar="DIR", help="the new run")
    sub.add_argument(
        "--ros", action="store_true", help="run episodes on the robot whose nodes are up, learner included"
    )
    sub.add_argument("--namespace", default="", help="of the robot's topics and services")
    sub.add_argument("--enable", action="store_true", help="let the guardian pass commands on: the robot WILL MOVE")
    sub.add_argument("--wait", action="store_true", help="begin no episode before the last one was learned from")
    sub.add_argument(
        "--reset-free", action="store_true", help="--ros: do the task and undo it by turns, without resets"
    )
    sub.add_argument(
        "--person-every", type=count, metavar="N", help="--reset-free: ask a person after N episodes (default: 20)"
    )
    sub.add_argument("--evaluate-every", type=count, metavar="N", help="evaluate after every N episodes")
    sub.add_argument("--evaluation-episodes", type=count, metavar="M", help="over so many (default: 20; --ros 10)")
    sub.add_argument("--task")
    sub.add_argument("--gap", help="what differs from the simulator, for example friction=0.3,delay_steps=1")
    sub.add_argument(
        "--mix",
        choices=("real", "sim", "naive", "h2o"),
        help="the task simulates the log's robot: learn from the log, from rollouts, from both as they are, or with "
        "rollouts weighted where the simulator is off; --gap is then the real robot's, which is only evaluated in",
    )
    sub.add_argument(
        "--algorithm",
        metavar="NAME",
        help="rlpd, cal_ql, h2o or h2o_plus from the run's policy (default: the run's own)",
    )
    sub.add_argument("--episodes", type=count)
    sub.add_argument("--seed", type=int)
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    sub.add_argument("--resume", action="store_true", help="go on with the run in DIR")

    sub = command("evaluate", _evaluate, "How well a run's policy does, on fixed seeds.")
    sub.add_argument("run", type=Path, metavar="RUN")
    sub.add_argument("--task", help="in simulation, in this process")
    sub.add_argument(
        "--held-out", action="store_true", help="beside the logged actions of episodes it did not learn from"
    )
    sub.add_argument("--ros", action="store_true", help="on the robot whose nodes are up, real or simulated")
    sub.add_argument("--namespace", default="", help="of the robot's topics and services")
    sub.add_argument("--enable", action="store_true", help="let the guardian pass commands on: the robot WILL MOVE")
    sub.add_argument("--gap")
    sub.add_argument(
        "--filter", type=Path, metavar="RUN", help="a calibrated fisor run: only what it judges feasible is carried out"
    )
    sub.add_argument("--episodes", type=count, default=50)
    sub.add_argument("--seed", type=int, help="of the first episode (default: 1000000)")
    sub.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mean")
    sub.add_argument("--videos", type=int, default=0, metavar="N", help="keep videos of the first N episodes")

    sub = command(
        "calibrate", _calibrate, "Make a filter of a fisor run: what it lets pass is feasible, as far as it says."
    )
    sub.add_argument("run", type=Path, metavar="RUN")
    sub.add_argument(
        "--false-safe",
        type=float,
        required=True,
        metavar="RATE",
        help="of episodes that violate something, the share in which something may be accepted shortly before",
    )
    sub.add_argument("--horizon", type=count, metavar="STEPS", help="how long before counts as shortly (default: 5)")
    sub.add_argument("--store", type=Path, help="calibrate on its episodes (default: those that the run held out)")
    sub.add_argument("--labels", metavar="NAME", help="its label set with costs (default: as the run's)")

    sub = command("report", _report, "One HTML file on a run, or on a store's label set.")
    sub.add_argument("path", type=Path, metavar="RUN|STORE")
    sub.add_argument("--labels", metavar="NAME", help="of a store: the label set to report on")
    sub.add_argument("--out", type=Path, metavar="FILE", help="default: with the labeller, else STORE-NAME.html")
    sub.add_argument("--episodes", type=count, metavar="N", help="timelines in a label set's report (default: 8)")

    sub = command("demo", _demo, "The main job in simulation, end to end, in minutes.")
    sub.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="new or empty (default: runs/demo-N)")


def _pretrain(options: argparse.Namespace) -> Result:
    from finetune import pretrain

    if options.resume:
        nothing_but_resume(options)
        result = pretrain.resume(options.run, bar("updates"))
    else:
        if options.store is None:
            raise InputError("pretrain: expected STORE (only --resume does without)")
        result = pretrain.pretrain(options.store, options.run, _train_config(options), bar("updates"), note)
    rate = "" if result.updates_per_second is None else f", {result.updates_per_second:.0f} updates/s"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items())
    return dataclasses.asdict(result), f"{result.run}: {result.steps} updates{rate}\n  {metrics}"


def _train_config(options: argparse.Namespace) -> Any:
    from episodes.typed import parse_settings, read_yaml
    from finetune.config import resolve

    flags = {
        key: getattr(options, key)
        for key in ("labels", "steps", "seed", "chunk", "camera", "encoder", "device")
        if getattr(options, key) is not None
    }
    file = read_yaml(options.config) if options.config else None
    return resolve(options.algorithm, options.preset, file, flags | parse_settings(options.set))


def _finetune(options: argparse.Namespace) -> Result:
    from episodes.typed import parse_settings
    from finetune import online
    from finetune.learner import learning_config

    if options.ros:
        return _finetune_on_robot(options)
    for flag in ("reset_free", "person_every"):
        if getattr(options, flag):
            raise InputError(f"finetune: --{flag.replace('_', '-')} is for robots; give --ros, too")
    if options.run is None:
        raise InputError("finetune: expected --run DIR, the new run (only --ros does without)")
    if options.resume:
        nothing_but_resume(options)
        result = online.resume(options.run, bar("episodes"))
    else:
        if options.parent is None or options.task is None:
            raise InputError("finetune: expected RUN and --task (only --resume does without)")
        keys = ("task", "gap", "mix", "algorithm", "episodes", "seed", "evaluate_every", "evaluation_episodes")
        given = {key: getattr(options, key) for key in keys}
        settings = {key: value for key, value in given.items() if value is not None} | parse_settings(options.set)
        config = learning_config(online.OnlineConfig, settings)
        result = online.finetune(options.parent, options.run, config, bar("episodes"))
    success = "the task knows no success"
    if result.online_success_rate is not None:
        success = f"success while learning {result.online_success_rate:.2f}, "
        success += f"cumulative regret {result.cumulative_regret:.2f}"
    if result.dropped_rollouts:
        success += f"; {result.dropped_rollouts} rollouts dropped, since the simulator became unstable"
    return dataclasses.asdict(result), (
        f"{result.run}: {result.episodes} episodes, {result.online_steps} steps; {success}"
    )


def _finetune_on_robot(options: argparse.Namespace) -> Result:
    from robot.ros import require_ros

    for flag in ("parent", "run", "task", "gap", "mix", "algorithm", "seed", "set", "resume"):
        if getattr(options, flag):
            what = "RUN" if flag == "parent" else f"--{flag}"
            raise InputError(f"finetune --ros: {what} is said to the nodes (firsthand up finetune ...); leave it out")
    if options.episodes is None:
        raise InputError("finetune --ros: expected --episodes N, after which enough was learned from")
    if options.reset_free:
        return _finetune_reset_free(options)
    if options.person_every is not None:
        raise InputError("finetune --ros: --person-every is for --reset-free; else a reset comes before every episode")
    require_ros()
    from robot.session import learn_on_robot

    found = learn_on_robot(
        options.episodes,
        enable=options.enable,
        wait=options.wait,
        evaluate_every=options.evaluate_every or 0,
        evaluation_episodes=options.evaluation_episodes or 10,
        namespace=options.namespace,
        progress=bar("episodes"),
    )
    rate = _rate(episode.success for episode in found if not episode.evaluation)
    document = {
        "episodes": len(found),
        "steps": sum(episode.steps for episode in found),
        "online_success_rate": rate,
        "cumulative_regret": None if rate is None else 1 - rate,
        "evaluation_success_rate": _rate(episode.success for episode in found if episode.evaluation),
        "true_success_rate": _rate(episode.truth for episode in found),
        "changed_by_guardian": sum(episode.changed for episode in found),
        "filter": _rulings(found),
    }
    success = "nobody said how they ended" if rate is None else f"success {rate:.2f}, cumulative regret {1 - rate:.2f}"
    if document["true_success_rate"] is not None:
        success += f" (in truth {document['true_success_rate']:.2f})"
    return document, (
        f"{len(found)} episodes, {document['steps']} steps; {success}; "
        f"the guardian changed {document['changed_by_guardian']} commands{_ruled(document['filter'])}"
    )


def _finetune_reset_free(options: argparse.Namespace) -> Result:
    from robot.ros import require_ros

    for flag in ("evaluate_every", "evaluation_episodes"):
        if getattr(options, flag):
            raise InputError(f"finetune --reset-free: --{flag.replace('_', '-')} needs resets; leave it out")
    require_ros()
    from robot.reset_free import learn_reset_free

    every = PERSON_EVERY if options.person_every is None else options.person_every
    found = learn_reset_free(
        options.episodes,
        person_every=every,
        enable=options.enable,
        wait=options.wait,
        namespace=options.namespace,
        progress=bar("episodes"),
        say=note,
    )
    document: dict[str, Any] = {
        "episodes": len(found.episodes),
        "steps": sum(episode.steps for episode in found.episodes),
        "asked": found.asked,
        "person_resets": len(found.asked),
        "changed_by_guardian": sum(episode.changed for episode in found.episodes),
        "filter": _rulings(found.episodes),
    }
    told = []
    for way, backward in (("forward", False), ("backward", True)):
        of_it = [episode for episode in found.episodes if episode.backward == backward]
        rate = _rate(episode.success for episode in of_it)
        document[way] = {
            "episodes": len(of_it),
            "successes": sum(episode.success is True for episode in of_it),
            "success_rate": rate,
            "true_success_rate": _rate(episode.truth for episode in of_it),
        }
        told.append(f"{way} {len(of_it)}" + ("" if rate is None else f", success {rate:.2f}"))
    return document, (
        f"{len(found.episodes)} episodes, {document['steps']} steps ({'; '.join(told)}); a person was asked "
        f"{len(found.asked)} times; the guardian changed {document['changed_by_guardian']} commands"
        f"{_ruled(document['filter'])}"
    )


def _evaluate(options: argparse.Namespace) -> Result:
    from finetune.evaluate import check_fits, evaluate
    from finetune.report import row_of
    from finetune.run import Run
    from finetune.video import save_video
    from policies.policy import Policy

    run = Run.open(options.run)
    if options.ros:
        return _evaluate_on_robot(options)
    if options.held_out:
        return _evaluate_held_out(options)
    if options.task is None:
        raise InputError(
            "evaluate: expected --task TASK, --ros for the robot whose nodes are up, or --held-out for its log"
        )
    policy = Policy.load(run.last, deterministic=not options.stochastic)
    task = task_of(options, () if policy.camera is None else (policy.camera,), policy.image_size)
    if policy.contract is not None:
        check_fits(policy.contract, policy.camera, task)
    operator: Any = policy
    if options.filter is not None:
        operator = _filtered(policy, options.filter, task)
    name = "-".join(
        [
            task.name.replace(":", "-"),
            *([] if options.filter is None else [f"filtered-by-{options.filter.resolve().name}"]),
            *(["stochastic"] if options.stochastic else []),
            *_words(options.gap),
            *([] if options.seed is None else [f"seed{options.seed}"]),
            str(options.episodes),
        ]
    )
    summary = evaluate(
        task,
        operator,
        options.episodes,
        **({} if options.seed is None else {"seed": options.seed}),
        videos=options.videos,
        on_video=lambda number, frames: save_video(run, f"{name}-{number}", frames, task.contract.rate),
        progress=bar("episodes"),
    ).summary()
    if options.filter is not None:
        summary["filter"] = {str(ruling): times for ruling, times in operator.counts.items()}
    run.save_evaluation(name, summary)
    row = row_of(str(options.run), summary)
    return {key: value for key, value in summary.items() if key != "per_episode"}, (
        f"{row.who} in {row.task}: {row.episodes} episodes, success {row.success}, "
        f"largest reward {row.best_reward}, return {row.returns}, length {row.length}{_violated(summary)}"
        f"{_ruled(summary.get('filter'))}"
    )


def _filtered(policy: Any, judge: Path, task: Any) -> Any:
    """A policy behind the filter of a run, in a task; a stop is whatever holds still there."""
    from finetune.calibrating import filter_of
    from finetune.evaluate import check_fits
    from finetune.run import Run
    from policies.feasibility import FilteredPolicy

    found = filter_of(Run.open(judge))
    check_fits(found.contract, None, task)
    return FilteredPolicy(policy, found.filter, lambda _: task.hold_action())


def _ruled(counts: dict[str, int] | None) -> str:
    if counts is None:
        return ""
    own, replaced, stopped = (counts[ruling] for ruling in RULINGS)
    return f"; the filter let {own} actions pass, replaced {replaced} and stopped at {stopped}"


def _calibrate(options: argparse.Namespace) -> Result:
    from finetune.calibrating import HORIZON, calibrate_run
    from finetune.run import Run

    run = Run.open(options.run)
    if options.labels is not None and options.store is None:
        raise InputError("calibrate: --labels is of the other store's episodes; give --store, too, or leave it out")
    found = calibrate_run(run, options.false_safe, options.horizon or HORIZON, options.store, options.labels)
    accepted = (
        ""
        if found.safe_accepted is None
        else (f"\n  {found.safe_accepted:.0%} of the steps of held-out episodes that violate nothing are accepted")
    )
    return dataclasses.asdict(found), f"{found.filter}: {found.text}{accepted}"


def _violated(summary: dict[str, Any]) -> str:
    """What an evaluation says of the task's constraints, where it has any."""
    if summary["violated_rate"] is None:
        return ""
    low, high = summary["violated_interval"]
    return (
        f", violations in {summary['violated_rate']:.2f} [{low:.2f}, {high:.2f}] of the episodes, "
        f"{summary['violation_mean']:.1f} steps each on average"
    )


def _evaluate_held_out(options: argparse.Namespace) -> Result:
    from finetune.held_out import action_errors, in_words
    from finetune.run import Run

    for flag in ("task", "gap", "filter", "seed", "stochastic", "videos", "namespace", "enable"):
        if getattr(options, flag):
            raise InputError(f"evaluate --held-out: --{flag} is for episodes that are run; leave it out")
    errors = action_errors(Run.open(options.run))
    return errors.summary(), in_words(errors)


def _evaluate_on_robot(options: argparse.Namespace) -> Result:
    from finetune.report import row_of
    from finetune.run import Run
    from policies.policy import Policy
    from robot.evaluation import evaluation_of
    from robot.ros import require_ros

    for flag, given in (
        ("task", options.task),
        ("gap", options.gap),
        ("seed", options.seed),
        ("videos", options.videos),
        ("filter", options.filter),
        ("held-out", options.held_out),
    ):
        if given:
            raise InputError(f"evaluate --ros: --{flag} is said to the nodes, or not at all; leave it out")
    require_ros()
    from robot.session import run_episodes

    run = Run.open(options.run)
    policy = Policy.load(run.last)
    found = run_episodes(
        options.episodes, enable=options.enable, namespace=options.namespace, progress=bar("episodes", options.episodes)
    )
    summary = evaluation_of(found, policy).summary()
    run.save_evaluation(f"ros-{options.episodes}", summary)
    row = row_of(str(options.run), summary)
    changed = sum(episode.changed for episode in found)
    document = {key: value for key, value in summary.items() if key != "per_episode"}
    document |= {"true_success_rate": _rate(episode.truth for episode in found), "changed_by_guardian": changed}
    document["filter"] = _rulings(found)
    truth = "" if document["true_success_rate"] is None else f" (in truth {document['true_success_rate']:.2f})"
    return document, (
        f"{row.who} on the robot: {row.episodes} episodes, success {row.success}{truth}, length {row.length}; "
        f"the guardian changed {changed} of {sum(episode.steps for episode in found)} commands"
        f"{_ruled(document['filter'])}"
    )


def _rulings(episodes: Iterable[Any]) -> dict[str, int] | None:
    """What the feasibility filter decided in all of these; None where there was none."""
    found = sum((Counter(episode.rulings) for episode in episodes), Counter())
    return {ruling: found[ruling] for ruling in RULINGS} if found else None


def _rate(successes: Iterable[bool | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [success for success in successes if success is not None]
    return sum(known) / len(known) if known else None


def _words(gap: str | None) -> list[str]:
    return [gap.replace("=", "").replace(",", "-")] if gap else []


def _report(options: argparse.Namespace) -> Result:
    if options.labels is not None:
        from episodes.store import Store
        from rewards.report.label_report import write_label_report

        shown = {} if options.episodes is None else {"episodes": options.episodes}
        file = write_label_report(Store.open(options.path), options.labels, options.out, **shown)
    else:
        from finetune.report import write_report
        from finetune.run import Run

        _refuse_without_labels(options)
        file = write_report(Run.open(options.path))
    return {"report": str(file)}, str(file)


def _refuse_without_labels(options: argparse.Namespace) -> None:
    """A store is reported on by label set, and a run's report has its place."""
    if (options.path / "refs").is_dir():
        from episodes.store import Store

        names = ", ".join(Store.open(options.path).snapshot().label_names) or "none yet"
        raise InputError(f"{options.path}: is a store; say which of its label sets with --labels NAME: {names}")
    for key in ("out", "episodes"):
        if getattr(options, key) is not None:
            raise InputError(f"report --{key} belongs to a store's label set: give --labels NAME, or leave it out")


def _demo(options: argparse.Namespace) -> Result:
    from finetune.demo import demo, free_folder
    from robot.demo import DemoRobot

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        robot = DemoRobot(say)
    except InputError as error:
        say(f"without a robot: {error}")
        robot = None
    report = demo(options.folder or free_folder(Path("runs")), say, robot)
    return {"report": str(report)}, f"report: {report}"


def nothing_but_resume(options: argparse.Namespace) -> None:
    """Refuse settings that a resumed run would ignore: it goes on with those that it was begun with."""
    ours = ("command", "json", "resume", "run")
    given = {key: value for key, value in vars(options).items() if value is not None and value is not False}
    beside = [key for key, value in given.items() if key not in ours and value not in ([], "")]
    if beside:
        raise InputError(f"{options.run}: --resume goes on as the run was begun; leave out: {', '.join(beside)}")
