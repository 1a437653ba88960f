"""A stop that somebody asked for, until the guardian says that it is latched."""

from dataclasses import dataclass
from typing import Any

ANSWERING = 1_000_000_000
"""So long the guardian may take [ns]; then whoever asked is told that it did not answer."""
AGAIN = 250_000_000
"""Between two times that it is asked [ns]."""
TRYING = 10_000_000_000
"""For how long it is asked [ns]: a stop that comes much later would surprise those who have helped themselves."""
REMEMBERED = 60_000_000_000
"""For how long it is said that it failed [ns]."""


@dataclass(slots=True)
class Stopping:
    """Asks again until it is answered. All times are steady [ns]."""

    _asked: int | None = None
    _tried: int | None = None
    _tries: int = 0
    _answered: bool = False
    _latched: bool = False
    _problem: str = ""

    def ask(self, now: int) -> None:
        """Somebody wants a stop now. Pressed again while it is under way, it goes on."""
        if self._asked is None or self._confirmed or now - self._asked > ANSWERING:
            self._asked, self._tried, self._tries = now, None, 0
            self._answered, self._problem = False, ""

    def due(self, now: int) -> bool:
        """Whether the guardian is to be asked now."""
        if self._asked is None or self._answered or now - self._asked > TRYING:
            return False
        return self._tried is None or now - self._tried >= AGAIN

    def tried(self, now: int, problem: str = "") -> None:
        """It was asked, or could not be, and why."""
        self._tried = now
        self._tries += 1
        self._problem = problem

    def answer(self, stopped: bool, message: str) -> None:
        """What the guardian answered."""
        self._answered = self._answered or stopped
        self._problem = "" if stopped else message

    def latched(self, stopped: bool) -> None:
        """What the guardian says of its latch. When it is let go of, nothing is left of who asked."""
        if self._latched and not stopped and self._confirmed:
            self._asked = None
        self._latched = stopped

    @property
    def _confirmed(self) -> bool:
        return self._answered and self._latched

    def document(self, now: int) -> dict[str, Any]:
        """`state` is empty, `asking`, `confirmed` or `failed`."""
        if self._asked is None or (not self._confirmed and now - self._asked > REMEMBERED):
            return {"state": "", "tries": 0, "problem": "", "age": None, "trying": False}
        passed = now - self._asked
        state = "confirmed" if self._confirmed else "failed" if passed > ANSWERING else "asking"
        return {
            "state": state,
            "tries": self._tries,
            "problem": self._problem,
            "age": passed / 1e9,
            "trying": not self._answered and passed <= TRYING,
        }
