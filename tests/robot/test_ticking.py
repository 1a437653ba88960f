"""Ticks come at deadlines that do not drift; by a clock of the test's, so that a busy machine changes nothing."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot import ticking
from robot.ticking import DeadlineThread, Lateness, ask_for_realtime

PERIOD = 1_000_000
"""[ns]"""
WAIT = 30.0
"""Longest time that a test waits for a thread [s]; it is not reached where all is well."""


@dataclass
class FakeTime:
    """In place of the module `time`: sleeping takes as long as was asked for, and longer where the test says so."""

    now: int = 0
    oversleep: list[int] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    asleep: Callable[[], None] = lambda: None

    def monotonic_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += round(seconds * 1e9) + (self.oversleep.pop(0) if self.oversleep else 0)
        self.asleep()


def ticks_of(clock: FakeTime, durations: Sequence[int]) -> tuple[list[int], DeadlineThread]:
    """When a thread ticked, whose ticks take so long [ns]; it ends after the last."""
    ticked: list[int] = []

    def tick() -> None:
        ticked.append(clock.now)
        clock.now += durations[len(ticked) - 1]
        if len(ticked) == len(durations):
            thread.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ticking, "time", clock)
        thread = DeadlineThread("test", PERIOD, tick, _unexpected, realtime=False)
        thread.start()
        thread._thread.join(WAIT)
    assert not thread._thread.is_alive()
    return ticked, thread


def _unexpected(error: BaseException) -> None:
    raise AssertionError("a tick failed") from error


def test_ticks_are_a_period_apart() -> None:
    ticked, thread = ticks_of(FakeTime(), [0] * 5)
    assert ticked == [PERIOD * number for number in (1, 2, 3, 4, 5)]
    assert thread.lateness.missed == 0


@settings(max_examples=40)
@given(st.lists(st.integers(0, PERIOD), min_size=1, max_size=30))
def test_deadlines_do_not_drift(durations: list[int]) -> None:
    ticked, thread = ticks_of(FakeTime(), durations)
    assert ticked == [PERIOD * (number + 1) for number in range(len(durations))]
    assert thread.lateness.missed == 0


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, PERIOD // 2), st.integers(0, PERIOD // 2)), min_size=1, max_size=30))
def test_sleeping_too_long_is_not_added_up(ticks: list[tuple[int, int]]) -> None:
    oversleep = [too_long for too_long, _ in ticks]
    ticked, _ = ticks_of(FakeTime(oversleep=list(oversleep)), [duration for _, duration in ticks])
    assert ticked == [PERIOD * (number + 1) + too_long for number, too_long in enumerate(oversleep)]


def test_the_lateness_is_from_the_deadline_to_the_tick() -> None:
    _, thread = ticks_of(FakeTime(oversleep=[300, 0, 500_000]), [0, 0, 0])
    assert thread.lateness.summary() == {
        "p50": 0.0003,
        "p99": pytest.approx(np.percentile([300, 0, 500_000], 99) / 1e6),
        "p99.9": pytest.approx(np.percentile([300, 0, 500_000], 99.9) / 1e6),
        "max": 0.5,
        "missed": 0,
    }


@pytest.mark.parametrize(
    ("duration", "missed"),
    [(PERIOD // 2, 0), (PERIOD, 0), (PERIOD * 3 // 2, 0), (2 * PERIOD - 1, 0), (2 * PERIOD, 1), (7 * PERIOD // 2, 2)],
)
def test_ticks_that_were_missed_are_left_out_and_counted(duration: int, missed: int) -> None:
    ticked, thread = ticks_of(FakeTime(), [duration, 0, 0, 0])
    assert thread.lateness.missed == missed
    assert ticked[1] == max(ticked[0] + duration, 2 * PERIOD)
    assert ticked[2] == PERIOD * (3 + missed), "and then on the old deadlines again"
    assert ticked[3] == ticked[2] + PERIOD


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5 * PERIOD), min_size=1, max_size=30))
def test_every_period_has_one_tick_or_is_counted_as_missed(durations: list[int]) -> None:
    ticked, thread = ticks_of(FakeTime(), [*durations, 0])
    assert len({at // PERIOD for at in ticked}) == len(ticked)
    assert ticked[-1] // PERIOD == len(ticked) + thread.lateness.missed


def test_a_failure_is_told_once_and_no_tick_comes_after_it() -> None:
    ticks, failures, done = [], [], threading.Event()

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            raise ValueError("broken")

    def failed(error: BaseException) -> None:
        failures.append((error, threading.current_thread()))
        done.set()

    thread = DeadlineThread("test", PERIOD, tick, failed, realtime=False)
    thread.start()
    assert done.wait(WAIT)
    thread._thread.join(WAIT)
    ((error, where),) = failures
    assert (type(error), str(error), len(ticks)) == (ValueError, "broken", 3)
    assert where is thread._thread
    thread.stop()


def test_stopping_waits_for_the_tick_that_is_under_way() -> None:
    begun, go_on, finished = threading.Event(), threading.Event(), threading.Event()

    def tick() -> None:
        begun.set()
        assert go_on.wait(WAIT)
        finished.set()

    thread = DeadlineThread("test", PERIOD, tick, _unexpected, realtime=False)
    thread.start()
    assert begun.wait(WAIT)
    threading.Timer(0.05, go_on.set).start()
    thread.stop()
    assert finished.is_set()
    assert not thread._thread.is_alive()


def test_a_tick_may_stop_its_own_thread() -> None:
    ticked, thread = ticks_of(FakeTime(), [0])
    assert len(ticked) == 1
    thread.stop()
    thread.stop()


def test_a_thread_that_was_never_started_can_be_stopped() -> None:
    DeadlineThread("test", PERIOD, lambda: None, _unexpected).stop()


def test_no_tick_begins_after_it_was_stopped() -> None:
    clock, ticked = FakeTime(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ticking, "time", clock)
        thread = DeadlineThread("test", PERIOD, lambda: ticked.append(clock.now), _unexpected, realtime=False)
        clock.asleep = thread.stop
        thread.start()
        thread._thread.join(WAIT)
    assert not thread._thread.is_alive()
    assert ticked == []


def test_a_slow_thread_has_ended_when_stopping_returns() -> None:
    thread = DeadlineThread("test", 4_000_000_000, lambda: None, _unexpected, realtime=False)
    thread.start()
    thread.stop()
    assert not thread._thread.is_alive()


def test_it_is_a_thread_that_does_not_keep_a_process_alive() -> None:
    assert DeadlineThread("watchdog", PERIOD, lambda: None, _unexpected)._thread.daemon


def test_nothing_is_summed_up_before_the_first_tick() -> None:
    assert Lateness().summary() == {"missed": 0}


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=50), st.integers(1, 10))
def test_a_summary_is_of_the_newest_ticks(late: list[int], kept: int) -> None:
    lateness = Lateness(kept)
    for each in late:
        lateness.add(each)
    summary, newest = lateness.summary(), late[-kept:]
    assert summary["max"] == max(newest) / 1e6
    assert summary["p50"] == pytest.approx(np.median(newest) / 1e6)
    assert summary["p50"] <= summary["p99"] * (1 + 1e-9) <= summary["p99.9"] * (1 + 2e-9) <= summary["max"] * (1 + 3e-9)


def test_priority_is_asked_for_and_its_refusal_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def agree(pid: int, policy: int, param: os.sched_param) -> None:
        asked.append((pid, policy, param.sched_priority))

    def refuse(*_: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr(os, "sched_setscheduler", agree)
    assert ask_for_realtime()
    assert asked == [(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, ticking.FIFO_PRIORITY)]
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert not ask_for_realtime()
    monkeypatch.delattr(os, "sched_setscheduler")
    assert not ask_for_realtime()


@pytest.mark.parametrize(
    ("wanted", "granted", "said"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_thread_says_whether_it_got_priority(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, granted: bool, said: bool
) -> None:
    monkeypatch.setattr(ticking, "ask_for_realtime", lambda _: granted)
    ticked = threading.Event()
    thread = DeadlineThread("test", PERIOD, ticked.set, _unexpected, realtime=wanted)
    thread.start()
    assert ticked.wait(WAIT)
    thread.stop()
    assert thread.realtime is said


def test_by_the_systems_clock_it_ticks_again_and_again() -> None:
    enough, ticks = threading.Event(), []

    def tick() -> None:
        ticks.append(time.monotonic_ns())
        if len(ticks) >= 5:
            enough.set()

    began = time.monotonic_ns()
    thread = DeadlineThread("test", PERIOD, tick, _unexpected, realtime=False)
    thread.start()
    assert enough.wait(WAIT)
    thread.stop()
    assert all(at >= began + PERIOD * (number + 1) for number, at in enumerate(ticks)), "never too early"


def test_threads_that_nobody_in_python_started_are_asked_for_too() -> None:
    """A process of its own: this one's threads stay as they are."""
    code = """
import os, torch
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
from robot.ticking import GUARDIAN_PRIORITY, ask_for_realtime, ask_for_realtime_middleware
torch.set_num_threads(2)
torch.ones(512, 512) @ torch.ones(512, 512)
there = set(map(int, os.listdir("/proc/self/task")))
ask_for_realtime_middleware(GUARDIAN_PRIORITY)
still = there & set(map(int, os.listdir("/proc/self/task")))
kinds = {thread: os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK for thread in still}
assert kinds.pop(os.getpid()) == os.SCHED_OTHER
print(len(kinds), set(kinds.values()) == {os.SCHED_FIFO}, ask_for_realtime())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    count, asked, granted = found.stdout.split()
    assert int(count) > 0
    assert asked == granted, "where the kernel grants it to one, it does to all"
