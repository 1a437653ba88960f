"""Forward and backward by turns: which task comes next, and when a person is asked. Reset-free operation without ROS.

After RoboFuME (Yang et al., 2023, arXiv:2310.15145): what has succeeded is undone by the robot itself, so that it can
be done again. That it is the other direction's turn after some failures, too, is ours.
"""

from episodes.errors import InputError

TRIES = 3
"""Failures of a direction in a row, after which the other begins from where that has led to."""
NOBODY_YET = "nobody has put everything in its place yet"


class Alternation:
    """Whose turn it is.

    A success hands over to the other direction. A failure leaves it where it is: what was not lifted need not be put
    back, and what was not put back has to be. But each policy knows what its log has shown. What lies a little beside
    where it should can often be lifted, and not be put back by one that has learned to let go; what lies far off is
    fetched back sooner by one that has learned to fetch. So after a few failures it is the other direction's turn. A
    person leaves everything where the forward task begins.
    """

    def __init__(self, person_every: int):
        """`person_every`: episodes after which a person is asked at the latest.

        Raises:
            InputError: unless that is 1 or more.
        """
        if person_every < 1:
            raise InputError(f"a person is asked every {person_every} episodes, expected 1 or more")
        self.backward = False
        """Whether the next episode is of the task that undoes the other."""
        self._every = person_every
        self._failed = 0
        """Tries of the direction whose turn it is, in a row."""
        self._alone: int | None = None
        """Episodes since a person was there; None where nobody has been."""

    @property
    def person_for(self) -> str:
        """What a person is needed for before the next episode, whatever the robot looks like; empty for nothing."""
        if self._alone is None:
            return NOBODY_YET
        return f"{self._alone} episodes without one" if self._alone >= self._every else ""

    def person_came(self) -> None:
        """Everything is in its place again."""
        self._alone, self._failed, self.backward = 0, 0, False

    def ended(self, success: bool | None) -> None:
        """An episode is over; None is one of which nobody knows, and so no success."""
        assert self._alone is not None, "a person comes first"
        self._alone += 1
        self._failed = 0 if success else self._failed + 1
        if success or self._failed >= TRIES:
            self._failed, self.backward = 0, not self.backward
