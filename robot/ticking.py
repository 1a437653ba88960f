"""A thread that ticks at absolute deadlines, and how late it was."""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

FIFO_PRIORITY = 40
"""Of SCHED_FIFO: above everything ordinary, below the kernel's own threads (50)."""
GUARDIAN_PRIORITY = FIFO_PRIORITY + 1
"""An actor that never sleeps must not keep the guardian from the processor."""
SWITCH = 1e-4
"""How soon a Python thread gives way to another of its process [s]. The usual 5 ms may be all the time there is."""


def ask_for_realtime(priority: int = FIFO_PRIORITY) -> bool:
    """Ask the kernel to run this thread before all ordinary ones. Returns whether it agreed (it takes a permission)."""
    return _ask_for_realtime(0, priority)


def ask_for_realtime_middleware(priority: int = FIFO_PRIORITY) -> None:
    """The same for the threads that nobody in Python has started: what is waited for comes through them."""
    ours = {thread.native_id for thread in threading.enumerate()}
    with contextlib.suppress(OSError):
        for thread in {int(task.name) for task in Path("/proc/self/task").iterdir()} - ours:
            _ask_for_realtime(thread, priority)


def _ask_for_realtime(thread: int, priority: int) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        # What it starts begins as ordinary: loading, rendering and writing are not what is to be in time.
        os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
        return True
    return False


SLICE = 0.5
"""Longest sleep without a look at whether to go on [s]."""


class Lateness:
    """How late ticks were, of the last few thousand."""

    def __init__(self, kept: int = 10_000):
        self._late: deque[int] = deque(maxlen=kept)
        self.missed = 0
        """Ticks that were left out, because the one before them took longer than a period."""

    def add(self, late: int) -> None:
        self._late.append(late)

    def summary(self) -> dict[str, float]:
        """Milliseconds: p50, p99, p99.9 and the largest; and how many ticks were missed."""
        if not self._late:
            return {"missed": self.missed}
        p50, p99, p999 = np.percentile(list(self._late), [50, 99, 99.9]) / 1e6
        return {"p50": p50, "p99": p99, "p99.9": p999, "max": max(self._late) / 1e6, "missed": self.missed}


class DeadlineThread:
    """Calls `tick` once per period, at deadlines that do not drift.

    After a tick that took longer than a period the missed ones are left out, not caught up: a burst of commands would
    move the robot faster than anybody asked for.
    """

    def __init__(
        self,
        name: str,
        period: int,
        tick: Callable[[], None],
        failed: Callable[[BaseException], None],
        *,
        realtime: bool = True,
        priority: int = FIFO_PRIORITY,
    ):
        """`period` in ns; `failed` is called once, from the thread, where a tick raised; no tick comes after it."""
        self.lateness = Lateness()
        self.realtime = realtime
        """Whether to ask for SCHED_FIFO; once started, whether it was given."""
        self._period, self._tick, self._failed, self._priority = period, tick, failed, priority
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the tick that is under way."""
        self._stop.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        self.realtime = self.realtime and ask_for_realtime(self._priority)
        deadline = time.monotonic_ns() + self._period
        while not self._stop.is_set():
            while (ahead := deadline - time.monotonic_ns()) > 0 and not self._stop.is_set():
                time.sleep(min(ahead / 1e9, SLICE))
            if self._stop.is_set():
                return
            late = time.monotonic_ns() - deadline
            self.lateness.add(late)
            try:
                self._tick()
            except Exception as error:
                self._failed(error)
                return
            deadline += self._period
            behind = time.monotonic_ns() - deadline
            if behind > 0:
                missed = behind // self._period
                self.lateness.missed += missed
                deadline += missed * self._period
