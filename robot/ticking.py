"""A thread that ticks at absolute deadlines, and how late it was."""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

FIFO_PRIORITY = 40
"""Of SCHED_FIFO: above everything ordinary, below the kernel's own threads (50)."""


def ask_for_realtime() -> bool:
    """Ask the kernel to run this thread before all ordinary ones. Returns whether it agreed (it takes a permission)."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
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
    ):
        """`period` in ns; `failed` is called once, from the thread, where a tick raised; no tick comes after it."""
        self.lateness = Lateness()
        self.realtime = realtime
        """Whether to ask for SCHED_FIFO; once started, whether it was given."""
        self._period, self._tick, self._failed = period, tick, failed
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
        self.realtime = self.realtime and ask_for_realtime()
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
