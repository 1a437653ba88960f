"""Commands that learn: from a log, in simulation, on the robot, and there without resets."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from commands.common import Add, Result, bar, count, note, rate_of, ruled, rulings_of, seconds
from episodes.errors import InputError

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
    sub.add_argument("--timeout", type=seconds, help="--ros: of one episode [s] (default: 120)")
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
    sub.add_argument("--episodes", type=count, help="in all, those of a run that goes on included")
    sub.add_argument("--seed", type=int)
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    sub.add_argument("--resume", action="store_true", help="go on with the run in DIR")


def _pretrain(options: argparse.Namespace) -> Result:
    from finetune import pretrain

    if options.resume:
        _nothing_but_resume(options)
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
    for flag in ("reset_free", "person_every", "namespace", "enable", "wait", "timeout"):
        if getattr(options, flag):
            raise InputError(f"finetune: --{flag.replace('_', '-')} is for robots; give --ros, too")
    if options.run is None:
        raise InputError("finetune: expected --run DIR, the new run (only --ros does without)")
    if options.resume:
        _nothing_but_resume(options)
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
    from robot.session import TIMEOUT, learn_on_robot

    found = learn_on_robot(
        options.episodes,
        enable=options.enable,
        wait=options.wait,
        evaluate_every=options.evaluate_every or 0,
        evaluation_episodes=options.evaluation_episodes or 10,
        namespace=options.namespace,
        timeout=options.timeout or TIMEOUT,
        progress=bar("episodes"),
        say=note,
    )
    rate = rate_of(episode.success for episode in found if not episode.evaluation)
    document = {
        "episodes": len(found),
        "steps": sum(episode.steps for episode in found),
        "online_success_rate": rate,
        "cumulative_regret": None if rate is None else 1 - rate,
        "evaluation_success_rate": rate_of(episode.success for episode in found if episode.evaluation),
        "true_success_rate": rate_of(episode.truth for episode in found),
        "changed_by_guardian": sum(episode.changed for episode in found),
        "filter": rulings_of(found),
    }
    success = "nobody said how they ended" if rate is None else f"success {rate:.2f}, cumulative regret {1 - rate:.2f}"
    if document["true_success_rate"] is not None:
        success += f" (in truth {document['true_success_rate']:.2f})"
    return document, (
        f"{len(found)} episodes, {document['steps']} steps; {success}; "
        f"the guardian changed {document['changed_by_guardian']} commands{ruled(document['filter'])}"
    )


def _finetune_reset_free(options: argparse.Namespace) -> Result:
    from robot.ros import require_ros

    for flag in ("evaluate_every", "evaluation_episodes"):
        if getattr(options, flag):
            raise InputError(f"finetune --reset-free: --{flag.replace('_', '-')} needs resets; leave it out")
    require_ros()
    from robot.reset_free import learn_reset_free
    from robot.session import TIMEOUT

    every = PERSON_EVERY if options.person_every is None else options.person_every
    found = learn_reset_free(
        options.episodes,
        person_every=every,
        enable=options.enable,
        wait=options.wait,
        namespace=options.namespace,
        timeout=options.timeout or TIMEOUT,
        progress=bar("episodes"),
        say=note,
    )
    document: dict[str, Any] = {
        "episodes": len(found.episodes),
        "steps": sum(episode.steps for episode in found.episodes),
        "asked": found.asked,
        "person_resets": len(found.asked),
        "changed_by_guardian": sum(episode.changed for episode in found.episodes),
        "filter": rulings_of(found.episodes),
    }
    told = []
    for way, backward in (("forward", False), ("backward", True)):
        of_it = [episode for episode in found.episodes if episode.backward == backward]
        rate = rate_of(episode.success for episode in of_it)
        document[way] = {
            "episodes": len(of_it),
            "successes": sum(episode.success is True for episode in of_it),
            "success_rate": rate,
            "true_success_rate": rate_of(episode.truth for episode in of_it),
        }
        told.append(f"{way} {len(of_it)}" + ("" if rate is None else f", success {rate:.2f}"))
    return document, (
        f"{len(found.episodes)} episodes, {document['steps']} steps ({'; '.join(told)}); a person was asked "
        f"{len(found.asked)} times; the guardian changed {document['changed_by_guardian']} commands"
        f"{ruled(document['filter'])}"
    )


def _nothing_but_resume(options: argparse.Namespace) -> None:
    """Refuse settings that a resumed run would ignore: it goes on with those that it was begun with."""
    ours = ("command", "json", "resume", "run")
    given = {key: value for key, value in vars(options).items() if value is not None and value is not False}
    beside = [key for key, value in given.items() if key not in ours and value not in ([], "")]
    if beside:
        raise InputError(f"{options.run}: --resume goes on as the run was begun; leave out: {', '.join(beside)}")
