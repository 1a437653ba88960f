"""Commands that show what came out: a report, and all of the main job at once."""

import argparse
import sys
from pathlib import Path

from commands.common import Add, Result, count
from episodes.errors import InputError


def add(command: Add) -> None:
    """Add these commands to the command line."""
    sub = command("report", _report, "One HTML file on a run, or on a store's label set.")
    sub.add_argument("path", type=Path, metavar="RUN|STORE")
    sub.add_argument("--labels", metavar="NAME", help="of a store: the label set to report on")
    sub.add_argument("--out", type=Path, metavar="FILE", help="default: with the labeller, else STORE-NAME.html")
    sub.add_argument("--episodes", type=count, metavar="N", help="timelines in a label set's report (default: 8)")

    sub = command("demo", _demo, "The main job in simulation, end to end, in minutes.")
    sub.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="new or empty (default: runs/demo-N)")


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
