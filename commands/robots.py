"""Commands about robots: contracts, nodes, and running them together."""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from commands.common import Add, Result
from episodes.errors import InputError


def add(command: Add) -> None:
    """Add these commands to the command line."""
    sub = command("contract", _contract, "Check a robot's contract, or print its JSON Schema for editors.")
    sub.add_argument("what", choices=["check", "schema"])
    sub.add_argument("file", type=Path, nargs="?", metavar="FILE")
    sub.add_argument("--bag", type=Path, metavar="BAG", help="compare with what a bag holds")
    sub.add_argument(
        "--live", type=float, nargs="?", const=5.0, metavar="SECONDS", help="compare with what is published"
    )
    sub.add_argument("--namespace", default="", help="of the topics, in the bag or live")

    sub = command(
        "node", _node, "Run one ROS 2 node: sim_robot, actor, guardian, recorder, rewarder, learner, courier."
    )
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("rest", nargs=argparse.REMAINDER, metavar="--ros-args ...", help="as `ros2 run` takes them")

    sub = command(
        "up", _up, "Start a set of nodes: sim, record, deploy, finetune, learn. Ends all of them with Ctrl-C."
    )
    sub.add_argument("kind", metavar="sim|record|deploy|finetune|learn")
    sub.add_argument("arguments", nargs="*", metavar="NAME:=VALUE", help="as `ros2 launch` has them; `list` shows them")

    sub = command("call", _call, "Call a service of the nodes that are up, as `ros2 service call` does.")
    sub.add_argument(
        "service", metavar="SERVICE", help="such as recorder/start, guardian/rearm, or guardian/enable true"
    )
    sub.add_argument("value", nargs="?", choices=["true", "false"], help="of a service that is switched")
    sub.add_argument("--namespace", default="", help="of the robot's services")

    sub = command("monitor", _monitor, "One web page on this machine: what the robot sees, does, learns; and a stop.")
    sub.add_argument("--namespace", default="", help="of the robot's topics and services")
    sub.add_argument("--contract", type=Path, metavar="FILE", help="left out, the nodes that are up say which")
    sub.add_argument("--port", type=_port, default=8123, help="0 takes one that is free (default: 8123)")


def _contract(options: argparse.Namespace) -> Result:
    from robot.contract_file import json_schema, read_robot_contract
    from robot.contract_rules import check_guarded

    if options.what == "schema":
        schema = json_schema()
        return {"schema": schema}, schema
    if options.file is None:
        raise InputError("contract check: expected FILE, a robot's contract")
    contract = read_robot_contract(options.file)
    layout = contract.layout()
    document: dict[str, Any] = {
        "contract": contract.name,
        "state_size": len(layout.state),
        "action_size": len(layout.action),
        "cameras": layout.camera_names,
        "rate": contract.rate,
        "hash": layout.hash,
    }
    lines = [
        f"{options.file}: {contract.name}, {contract.rate:g} Hz, state {len(layout.state)}, action {len(layout.action)}"
        f", cameras {', '.join(layout.camera_names) or 'none'}"
    ]
    try:
        check_guarded(contract)
        document["moves"] = ""
    except InputError as error:
        # Enough to import bags with.
        document["moves"] = str(error)
        lines.append(f"a guardian would not take it: {error}")
    found = _findings(options, contract)
    for finding in found:
        lines.append(f"{'ok ' if finding.ok else 'NOT'}  {finding.what}: {finding.detail}")
        if not finding.ok:
            lines.append(f"       {finding.remedy}")
    options.healthy = all(finding.ok for finding in found)
    return {**document, "findings": [dataclasses.asdict(finding) for finding in found]}, "\n".join(lines)


def _findings(options: argparse.Namespace, contract: Any) -> list[Any]:
    """What a bag, or what is published now, holds of a contract."""
    from robot.bag_check import check_bag

    if options.bag is not None and options.live is not None:
        raise InputError("contract check: give --bag or --live, one at a time")
    if options.bag is not None:
        return check_bag(contract, options.bag, options.namespace)
    if options.live is None:
        return []
    from robot.ros import require_ros

    require_ros()
    from robot.live import record

    with tempfile.TemporaryDirectory() as folder:
        bag = Path(folder) / "live.mcap"
        published = record(contract, bag, options.live, options.namespace)
        found = check_bag(contract, bag, options.namespace)
    silent = {command.topic for command in contract.commands} - published
    return [
        dataclasses.replace(finding, ok=True, detail="nobody commands it now") if finding.what in silent else finding
        for finding in found
    ]


def _node(options: argparse.Namespace) -> Result:
    from robot.node import run

    raise SystemExit(run(options.name, options.rest))


def _up(options: argparse.Namespace) -> Result:
    from robot.table import arguments_of, read_arguments
    from robot.up import up

    if options.arguments == ["list"]:
        lines = [f"{a.name:18s} {a.default!s:14s} {a.what}" for a in arguments_of(options.kind)]
        return {"arguments": lines}, "\n".join(lines)
    written: dict[str, str] = {}
    for word in options.arguments:
        name, given, written[name] = word.partition(":=")
        if not given or not name:
            raise InputError(f"{word!r}: expected NAME:=VALUE, as `ros2 launch` takes them")
    up(options.kind, read_arguments(options.kind, written), lambda line: print(line, file=sys.stderr, flush=True))
    return {}, ""


def _call(options: argparse.Namespace) -> Result:
    from robot.ros import require_ros

    require_ros()
    from robot.calling import call_service

    said = call_service(options.service, None if options.value is None else options.value == "true", options.namespace)
    return {"service": options.service, "message": said}, f"{options.service}: {said or 'done'}"


def _monitor(options: argparse.Namespace) -> Result:
    from robot.ros import require_ros

    require_ros()
    from robot.monitor.run import monitor

    def say(url: str) -> None:
        print(json.dumps({"url": url}) if options.json else f"{url}  (Ctrl-C ends it; the robot goes on)", flush=True)

    monitor(options.namespace, options.contract, options.port, say)
    raise SystemExit(0)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a port, a whole number from 0 to 65535")
    return int(text)
