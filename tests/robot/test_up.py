"""A set of processes is started together, watched, and ended together."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from robot import up as up_module
from robot.restarting import MOST_RESTARTS
from robot.table import NodeSpec
from robot.up import Up, _yaml, command_of, running, up

WAIT = 30.0
"""Longest time that a test waits for a process [s]."""
SLEEPS = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + SLEEPS
POLITE = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (print('bye', flush=True), sys.exit(0)))
print('ready', flush=True)
time.sleep(600)
"""


class Heard:
    """What was said, and waiting for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, *lines: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: set(lines) <= set(self.lines), WAIT), self.lines


Start = Callable[..., Up]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts small programs in place of nodes, and ends them whatever happens."""
    started: list[Up] = []

    def begin(say: Callable[[str], None], **programs: str) -> Up:
        monkeypatch.setattr(up_module, "command_of", lambda spec, *_: [sys.executable, "-c", programs[spec.name]])
        started.append(Up([NodeSpec(name, {}) for name in programs], "", "", say))
        return started[-1]

    yield begin
    monkeypatch.setattr(up_module, "GRACE", 0.2)
    for each in started:
        each.stop()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def ended(processes: Up) -> str:
    deadline = time.monotonic() + WAIT
    while (name := processes.ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return name


# The command line of a node.


def test_a_command_line_has_the_node_its_namespace_parameters_and_file() -> None:
    spec = NodeSpec("actor", {"run": "/my runs/a", "stochastic": True, "seed": 3, "factor": 0.5})
    assert command_of(spec, "left", "more.yaml") == [
        *[sys.executable, "-m", "firsthand", "node", "actor", "--ros-args"],
        *["-r", "__ns:=/left"],
        *["-p", 'run:="/my runs/a"', "-p", "stochastic:=true", "-p", "seed:=3", "-p", "factor:=0.5"],
        *["--params-file", "more.yaml"],
    ]


def test_what_is_not_said_is_not_in_the_command_line() -> None:
    assert command_of(NodeSpec("guardian", {}), "", "")[3:] == ["node", "guardian", "--ros-args"]


@pytest.mark.parametrize("namespace", ["left/arm", "/left/arm", "left/arm/", "/left/arm/"])
def test_a_namespace_may_be_written_with_slashes_or_without(namespace: str) -> None:
    assert "__ns:=/left/arm" in command_of(NodeSpec("guardian", {}), namespace, "")


@pytest.mark.parametrize(("namespace", "whole"), [("", "/backward"), ("/left/", "/left/backward")])
def test_a_node_may_have_a_namespace_inside_its_robots(namespace: str, whole: str) -> None:
    assert f"__ns:={whole}" in command_of(NodeSpec("learner", {}, "backward"), namespace, "")


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.floats(allow_nan=False) | st.booleans())
def test_a_parameter_is_read_back_with_its_type(value: str | float | bool) -> None:
    again = yaml.safe_load(_yaml(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *["", "y", "n", "yes", "no", "on", "off", "true", "False", "null", "~", "1", "1.0", "1e3", "0x10", "1_000"],
        *["2026-01-01", "a: b", "- a", "[1]", "{a: 1}", "# no", "'", '"', "a b", " a ", "...", "---", "!x", "&x", "*x"],
        *["/very long/path with/spaces" * 9, "tab\tend", "two\nlines", "gap: friction=0.3,gravity=2", "ü/é"],
    ],
)
def test_text_stays_text_whatever_it_looks_like(text: str) -> None:
    word = _yaml(text)
    assert yaml.safe_load(word) == text
    assert word.startswith('"')
    assert word.endswith('"')


@pytest.mark.parametrize(("value", "word"), [(True, "true"), (False, "false"), (0, "0"), (-3, "-3"), (1.0, "1.0")])
def test_numbers_and_truth_are_written_plainly(value: float | bool, word: str) -> None:
    assert _yaml(value) == word


# Processes.


def test_what_nodes_say_is_passed_on_with_their_names(start: Start) -> None:
    heard = Heard()
    start(heard, one="print('hello  '); print(); print('  there')", two="import sys; print('aside', file=sys.stderr)")
    heard.wait_for("[one] hello", "[one]   there", "[two] aside")
    assert all(line.strip() not in ("[one]", "[two]") for line in heard.lines)


@pytest.mark.parametrize(("said", "threads"), [(None, "1"), ("2", "2")])
def test_nodes_run_unbuffered_and_on_one_thread_unless_it_is_said(
    said: str | None, threads: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    heard = Heard()
    start(heard, one="import os; print(os.environ['PYTHONUNBUFFERED'], os.environ['OMP_NUM_THREADS'])")
    heard.wait_for(f"[one] 1 {threads}")


def test_while_all_are_there_none_has_ended(start: Start) -> None:
    heard = Heard()
    processes = start(heard, one=SLEEPS, two=SLEEPS)
    heard.wait_for("[one] ready", "[two] ready")
    assert processes.ended() is None
    assert processes.pid("one") != processes.pid("two")


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("print('it broke'); raise SystemExit(3)", "node two ended with 3: it broke"),
        ("import os; print('oh', flush=True); os.kill(os.getpid(), 9)", "node two was killed by signal 9: oh"),
        ("pass", "node two ended with 0: it said nothing"),
    ],
)
def test_a_node_that_ends_is_named_with_how_and_what_it_said_last(start: Start, program: str, problem: str) -> None:
    heard = Heard()
    processes = start(heard, one=SLEEPS, two=program)
    assert ended(processes) == "two"
    if "nothing" not in problem:
        heard.wait_for(f"[two] {problem.rsplit(': ', 1)[1]}")
    assert processes.problem("two") == problem


def test_the_last_words_of_a_node_are_waited_for(start: Start) -> None:
    processes = start(lambda _: time.sleep(0.2), one="for number in range(5): print(number)")
    ended(processes)
    assert processes.problem("one") == "node one ended with 0: 4"


def test_nodes_are_asked_to_end_and_get_the_time_for_it(start: Start) -> None:
    heard = Heard()
    processes = start(heard, one=POLITE, two=POLITE)
    heard.wait_for("[one] ready", "[two] ready")
    processes.stop()
    heard.wait_for("[one] bye", "[two] bye")
    assert processes.problem("one") == "node one ended with 0: bye"
    assert gone(processes.pid("one"))
    assert gone(processes.pid("two"))


def test_a_node_that_does_not_listen_is_killed_in_the_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    processes = start(heard, one=STUBBORN, two=POLITE)
    heard.wait_for("[one] ready", "[two] ready")
    monkeypatch.setattr(up_module, "GRACE", 3.0)
    processes.stop()
    assert processes.problem("one").startswith("node one was killed by signal 9")
    assert gone(processes.pid("one"))
    heard.wait_for("[two] bye")


def test_stopping_twice_is_stopping(start: Start) -> None:
    processes = start(Heard(), one="pass")
    ended(processes)
    processes.stop()
    processes.stop()


def test_a_node_is_heard_on_after_bytes_that_are_no_text(start: Start) -> None:
    heard = Heard()
    processes = start(
        heard,
        one="import sys; sys.stdout.buffer.write(b'\\xff\\n' + b'x' * 200000 + b'\\n'); print('end')",
    )
    assert ended(processes) == "one"
    heard.wait_for("[one] end")


def test_where_a_node_cannot_be_started_the_others_are_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = {"one": [sys.executable, "-c", SLEEPS], "two": [str(tmp_path / "no such program")]}
    popen, pids = up_module.subprocess.Popen, []

    def noting(*arguments: object, **options: object) -> object:
        process = popen(*arguments, **options)  # type: ignore[call-overload]
        pids.append(process)
        return process

    monkeypatch.setattr(up_module, "command_of", lambda spec, *_: commands[spec.name])
    monkeypatch.setattr(up_module.subprocess, "Popen", noting)
    try:
        with pytest.raises(FileNotFoundError):
            Up([NodeSpec("one", {}), NodeSpec("two", {})], "", "", lambda _: None)
        (first,) = pids
        assert first.poll() is not None
    finally:
        for process in pids:
            process.kill()
            process.wait()


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the nodes of a set are, in `running` and `up`."""
    found: dict[str, str] = {}
    monkeypatch.setattr(up_module, "require_ros", lambda: None)
    monkeypatch.setattr(up_module, "nodes", lambda kind, given: [NodeSpec(name, {}) for name in found])
    monkeypatch.setattr(up_module, "command_of", lambda spec, *_: [sys.executable, "-c", found[spec.name]])
    return found


def test_nodes_run_as_long_as_the_block_and_end_with_an_error_in_it(programs: dict[str, str]) -> None:
    programs |= {"one": POLITE, "two": POLITE}
    heard, pids = Heard(), []
    with pytest.raises(ZeroDivisionError), running("sim", {}, heard) as processes:
        heard.wait_for("[one] ready", "[two] ready")
        pids += [processes.pid("one"), processes.pid("two")]
        raise ZeroDivisionError
    assert all(map(gone, pids))


def test_where_one_node_ends_all_do_and_it_is_said_why(programs: dict[str, str]) -> None:
    programs |= {"one": POLITE, "two": "import time; time.sleep(0.5); print('no policy'); raise SystemExit(2)"}
    heard = Heard()
    with pytest.raises(InputError, match="node two ended with 2: "):
        up("sim", {}, heard)
    if "[one] ready" in heard.lines:
        heard.wait_for("[one] bye")


def test_no_node_is_left_behind_when_the_one_who_started_them_is_told_to_end(root: Path, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    node = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    program = (
        "import sys; from robot import up; from robot.table import NodeSpec; up.require_ros = lambda: None; "
        "up.nodes = lambda *_: [NodeSpec('one', {})]; "
        f"up.command_of = lambda *_: [sys.executable, '-c', {node!r}]; up.up('sim', {{}}, print)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=root)
    deadline = time.monotonic() + WAIT
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pid = int(note.read_text())
    parent.terminate()
    parent.wait(WAIT)
    try:
        assert gone(pid)
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


def test_what_is_refused_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up_module, "require_ros", lambda: None)
    monkeypatch.setattr(up_module, "Up", None)
    with pytest.raises(InputError, match="give it a run"):
        up("sim", {}, lambda _: None)
    with pytest.raises(InputError, match="unknown set of nodes"):
        up("demo", {}, lambda _: None)


def test_namespace_and_file_reach_the_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(up_module, "require_ros", lambda: None)
    monkeypatch.setattr(up_module, "command_of", lambda *said: seen.append(said) or [sys.executable, "-c", "pass"])
    with running("record", {"contract": "c.yaml", "namespace": "left", "params_file": "p.yaml"}, lambda _: None):
        ((spec, namespace, params_file),) = seen
    assert (spec.name, namespace, params_file) == ("recorder", "left", "p.yaml")


def pid_after(processes: Up, name: str, before: int) -> int:
    """Of a node that was started again."""
    deadline = time.monotonic() + WAIT
    while processes.pid(name) == before:
        assert time.monotonic() < deadline, "it is not started again"
        time.sleep(0.01)
    return processes.pid(name)


def test_who_learns_may_crash_and_is_started_again(start: Start) -> None:
    heard = Heard()
    processes = start(heard, guardian=SLEEPS, learner=SLEEPS)
    processes.keep_mending()
    guardian, learner = processes.pid("guardian"), processes.pid("learner")
    for _ in range(2):
        heard.wait_for("[learner] ready")
        os.kill(learner, signal.SIGKILL)
        learner = pid_after(processes, "learner", learner)
        assert processes.ended() is None
    assert processes.pid("guardian") == guardian
    assert "firsthand: node learner was killed by signal 9: ready; it is started again" in heard.lines


def test_who_has_failed_is_started_again_though_nobody_listens_any_more(start: Start) -> None:
    """As where the output went through a pipe, and its reader has died."""

    def gone_away(_: str) -> None:
        raise BrokenPipeError

    processes = start(gone_away, guardian=SLEEPS, learner=SLEEPS)
    processes.keep_mending()
    learner = processes.pid("learner")
    for _ in range(2):
        os.kill(learner, signal.SIGKILL)
        learner = pid_after(processes, "learner", learner)


def test_who_guards_is_missed_by_all(start: Start) -> None:
    heard = Heard()
    processes = start(heard, guardian=SLEEPS, learner=SLEEPS)
    processes.keep_mending()
    heard.wait_for("[guardian] ready")
    os.kill(processes.pid("guardian"), signal.SIGKILL)
    assert ended(processes) == "guardian"


def test_what_was_told_something_wrong_is_not_told_it_again(start: Start) -> None:
    processes = start(print, guardian=SLEEPS, learner="raise SystemExit(2)")
    processes.keep_mending()
    assert ended(processes) == "learner"
    assert processes.status("learner") == 2


def test_who_acts_and_crashes_again_and_again_ends_all(start: Start) -> None:
    heard = Heard()
    processes = start(heard, guardian=SLEEPS, actor="import os; os.kill(os.getpid(), 9)")
    processes.keep_mending()
    assert ended(processes) == "actor"
    assert sum("started again" in line for line in heard.lines) == MOST_RESTARTS


def test_a_robot_goes_on_without_a_learner_that_fails_again_and_again(start: Start) -> None:
    heard = Heard()
    processes = start(heard, guardian=SLEEPS, learner="raise SystemExit('out of memory')")
    processes.keep_mending()
    heard.wait_for("firsthand: node learner ended with 1: out of memory; the robot goes on without it")
    assert processes.ended() is None
    assert sum("started again" in line for line in heard.lines) == MOST_RESTARTS
    time.sleep(3 * up_module.LOOK)
    assert sum("without it" in line for line in heard.lines) == 1


def test_nobody_is_started_again_while_all_are_ended(start: Start) -> None:
    heard = Heard()
    processes = start(heard, guardian=SLEEPS, learner=POLITE)
    processes.keep_mending()
    heard.wait_for("[learner] ready")
    processes.stop()
    processes.mend()
    assert processes.status("learner") == 0
    assert not any("started again" in line for line in heard.lines)
