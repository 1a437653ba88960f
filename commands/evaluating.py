"""Commands about how good a policy is, and how safe: evaluating one, and calibrating the filter that judges it."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from commands.common import Add, Result, bar, count, note, rate_of, ruled, rulings_of, seconds, task_of
from episodes.errors import InputError

OF_ROBOTS = ("namespace", "enable", "timeout")
"""What is said of the robot whose nodes are up."""


def add(command: Add) -> None:
    """Add these commands to the command line."""
    sub = command("evaluate", _evaluate, "How well a run's policy does, on fixed seeds.")
    sub.add_argument("run", type=Path, metavar="RUN")
    sub.add_argument("--task", help="in simulation, in this process")
    sub.add_argument(
        "--held-out", action="store_true", help="beside the logged actions of episodes it did not learn from"
    )
    sub.add_argument("--ros", action="store_true", help="on the robot whose nodes are up, real or simulated")
    sub.add_argument("--namespace", default="", help="of the robot's topics and services")
    sub.add_argument("--enable", action="store_true", help="let the guardian pass commands on: the robot WILL MOVE")
    sub.add_argument("--timeout", type=seconds, help="--ros: of one episode [s] (default: 120)")
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
    for flag in OF_ROBOTS:
        if getattr(options, flag):
            raise InputError(f"evaluate: --{flag} is for robots; give --ros, too")
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
        f"{ruled(summary.get('filter'))}"
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

    for flag in ("task", "gap", "filter", "seed", "stochastic", "videos", *OF_ROBOTS):
        if getattr(options, flag):
            raise InputError(f"evaluate --held-out: --{flag} is for episodes that are run; leave it out")
    errors = action_errors(Run.open(options.run))
    return errors.summary(), in_words(errors)


def _evaluate_on_robot(options: argparse.Namespace) -> Result:
    from finetune.report import row_of
    from finetune.run import Run
    from policies.policy import Policy
    from robot.evaluation import evaluation_of, helped_in
    from robot.ros import require_ros

    for flag, given in (
        ("task", options.task),
        ("gap", options.gap),
        ("seed", options.seed),
        ("stochastic", options.stochastic),
        ("videos", options.videos),
        ("filter", options.filter),
        ("held-out", options.held_out),
    ):
        if given:
            raise InputError(f"evaluate --ros: --{flag} is said to the nodes, or not at all; leave it out")
    require_ros()
    from robot.session import TIMEOUT, run_episodes

    run = Run.open(options.run)
    policy = Policy.load(run.last)
    found = run_episodes(
        options.episodes,
        enable=options.enable,
        namespace=options.namespace,
        timeout=options.timeout or TIMEOUT,
        progress=bar("episodes", options.episodes),
        say=note,
    )
    helped = helped_in(found)
    summary = evaluation_of(found, policy).summary() | {"helped": helped}
    run.save_evaluation(f"ros-{options.episodes}", summary)
    row = row_of(str(options.run), summary)
    changed = sum(episode.changed for episode in found)
    document = {key: value for key, value in summary.items() if key != "per_episode"}
    document |= {"true_success_rate": rate_of(episode.truth for episode in found), "changed_by_guardian": changed}
    document["filter"] = rulings_of(found)
    hands = f"; a person took over in {helped} episodes, which count as they ended" if helped else ""
    truth = "" if document["true_success_rate"] is None else f" (in truth {document['true_success_rate']:.2f})"
    return document, (
        f"{row.who} on the robot: {row.episodes} episodes, success {row.success}{truth}, length {row.length}{hands}; "
        f"the guardian changed {changed} of {sum(episode.steps for episode in found)} commands"
        f"{ruled(document['filter'])}"
    )


def _words(gap: str | None) -> list[str]:
    return [gap.replace("=", "").replace(",", "-")] if gap else []
