"""Starting a set of nodes without the ros2 command, and ending all of them together."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import yaml

from episodes.errors import InputError
from robot.restarting import Fate, Restarts, is_robot
from robot.ros import require_ros
from robot.table import NodeSpec, Value, nodes

GRACE = 10.0
"""Time that nodes are given to end [s]; the guardian brings the robot to rest meanwhile."""
LAST_WORDS = 2.0
"""How long what a node has said is waited for when it has ended [s]."""
ROBOT = "sim_robot"
LOOK = 0.2
"""Between two looks for a node that has ended [s]."""


class Up:
    """The processes of a set of nodes. When this process is gone, however that came, they end by themselves."""

    def __init__(self, specs: Sequence[NodeSpec], namespace: str, params_file: str, say: Callable[[str], None]):
        self._say = say
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: dict[str, threading.Thread] = {}
        self._last: dict[str, str] = {}
        self._commands = {spec.path: command_of(spec, namespace, params_file) for spec in specs}
        beside = is_robot(spec.name for spec in specs)
        self._restarts = {spec.path: Restarts(spec.name, beside=beside) for spec in specs}
        self._done_without: set[str] = set()
        self._mending = False
        self._stopping = threading.Event()
        self._changing = threading.Lock()
        try:
            for name, command in self._commands.items():
                self._start(name, command)
        except BaseException:
            self.stop()
            raise

    def _start(self, name: str, command: list[str]) -> None:
        process = subprocess.Popen(  # noqa: S603
            # Their input is a pipe that nobody writes into: it ends when we do.
            [*command, "-p", "end_with_input:=true"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._processes[name] = process
        self._readers[name] = threading.Thread(target=self._echo, args=(name, process), daemon=True)
        self._readers[name].start()

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def ended(self) -> str | None:
        """The name of a node whose end is the end of all; None while all are there that are needed."""
        with self._changing:
            over = (name for name in self._commands if self.status(name) is not None)
            return next((name for name in over if self._fate(name) is Fate.OVER), None)

    def mend(self) -> None:
        """Start again what has failed, or say that it is done without."""
        with self._changing:
            for name in self._commands:
                if self.status(name) is None or name in self._done_without or self._stopping.is_set():
                    continue
                fate = self._fate(name)
                if fate is Fate.OVER:
                    continue
                self._tell(f"firsthand: {self.problem(name)}; {fate.value}")
                if fate is Fate.WITHOUT:
                    self._done_without.add(name)
                else:
                    self._restarts[name].begun_again(time.monotonic())
                    self._start(name, self._commands[name])

    def _fate(self, name: str) -> Fate:
        """Of a node that has ended."""
        if name in self._done_without:
            return Fate.WITHOUT
        if not self._mending or self._stopping.is_set():
            return Fate.OVER
        status = self.status(name)
        assert status is not None
        return self._restarts[name].fate(status, time.monotonic())

    def keep_mending(self) -> None:
        """From now on, in a thread of its own, until `stop`."""

        self._mending = True

        def work() -> None:
            while not self._stopping.wait(LOOK):
                self.mend()

        threading.Thread(target=work, name="mending", daemon=True).start()

    def status(self, name: str) -> int | None:
        """With what a node has ended; None while it is there."""
        return self._processes[name].poll()

    def problem(self, name: str) -> str:
        """How a node ended, and the last thing it said."""
        self._readers[name].join(timeout=LAST_WORDS)
        status = self._processes[name].returncode
        how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
        return f"node {name} {how}: {self._last.get(name, 'it said nothing')}"

    def stop(self) -> None:
        """End all nodes, gently, then not; a simulated robot last, so that it can be brought to rest."""
        self._stopping.set()
        with self._changing:
            self._stop()

    def _stop(self) -> None:
        deadline = time.monotonic() + GRACE
        robots = {name: process for name, process in self._processes.items() if name == ROBOT}
        others = {name: process for name, process in self._processes.items() if name != ROBOT}
        for group in (others, robots):
            for process in group.values():
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
            for process in group.values():
                try:
                    process.wait(max(0.5, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for name, process in self._processes.items():
            self._readers[name].join(timeout=LAST_WORDS)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def _echo(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for raw in lines:
                line = raw.decode(errors="replace")
                if line.strip():
                    self._last[name] = line.strip()
                    self._tell(f"[{name}] {line.rstrip()}")

    def _tell(self, line: str) -> None:
        # Whoever listened may have left: no node waits for that, and who has failed is started again.
        with contextlib.suppress(OSError, ValueError):
            self._say(line)


def command_of(spec: NodeSpec, namespace: str, params_file: str) -> list[str]:
    """The command line that starts a node."""
    words = [sys.executable, "-m", "firsthand", "node", spec.name, "--ros-args"]
    parts = [part.strip("/") for part in (namespace, spec.namespace) if part]
    if parts:
        words += ["-r", f"__ns:=/{'/'.join(parts)}"]
    for key, value in spec.parameters.items():
        words += ["-p", f"{key}:={_yaml(value)}"]
    if params_file:
        words += ["--params-file", params_file]
    return words


def _yaml(value: Value) -> str:
    """A value as ROS reads it back with its type; text in quotes, since a bare y would be a truth value."""
    return (
        yaml.safe_dump(value, default_style='"' if isinstance(value, str) else None).strip().removesuffix("...").strip()
    )


@contextmanager
def running(kind: str, given: Mapping[str, Value], say: Callable[[str], None]) -> Iterator[Up]:
    """A set of nodes for as long as the block lasts."""
    require_ros()
    specs = nodes(kind, given)
    if kind == "sim" or given.get("task"):
        # Its commands have a real robot's names, and somebody's robot may listen in the same network.
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    up = Up(specs, str(given.get("namespace", "")), str(given.get("params_file", "")), say)
    up.keep_mending()
    try:
        yield up
    finally:
        up.stop()


def up(kind: str, given: Mapping[str, Value], say: Callable[[str], None]) -> None:
    """Start a set of nodes and wait until it is interrupted (SIGINT), or told to end (SIGTERM).

    Raises:
        InputError: where a node that is needed ends by itself; the others are ended, too.
        KeyboardInterrupt: when it was interrupted or told to end.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with running(kind, given, say) as processes:
            while (name := processes.ended()) is None:
                time.sleep(LOOK)
            problem = processes.problem(name)
    finally:
        signal.signal(signal.SIGTERM, before)
    raise InputError(problem)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
