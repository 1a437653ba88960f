"""The command line: parse, carry out one command, print."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from commands import evaluating, labels, learning, logs, reporting, robots
from commands.common import Result
from episodes.errors import InputError

# Networks of this size lose more to waiting threads than they gain: one is faster, and leaves cores to simulation.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0; 2 where what was given cannot be used; 1 where a check found something."""
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
    return 0 if getattr(options, "healthy", True) else 1


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

    command("doctor", _doctor, "What is installed, and what to do about what is missing.")
    for stage in (logs, labels, learning, evaluating, reporting, robots):
        stage.add(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
