"""What the nodes tell each other and the bag, as JSON in `std_msgs/msg/String`.

Standard messages only, readable with `ros2 topic echo`, and exact: JSON keeps every digit of a float.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pydantic import ConfigDict

from episodes.errors import InputError
from episodes.typed import parse

STEP_TOPIC = "actor/step"
SENT_TOPIC = "guardian/sent"
EPISODE_TOPIC = "episode"
OUTCOME_TOPIC = "outcome"
TRUTH_TOPIC = "sim_robot/truth"
"""What a simulation knows of the task where somebody else judges it."""
LEARNER_TOPIC = "learner/state"
POLICY_TOPIC = "actor/policy"
"""Says which policy the next episode begins with: its hash, as 16 hexadecimal digits."""

BACKWARD = "backward"
"""The namespace of what belongs to the task that undoes the other."""

R = TypeVar("R")

_EXACT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class ActorStep:
    """One tick of the actor: what it saw, by the stamps of the messages, and what it wants."""

    __pydantic_config__ = _EXACT

    tick: int
    """[ns]"""
    episode: str
    """Empty between episodes."""
    stamps: tuple[int, ...]
    """See `Frame.stamps`."""
    action: tuple[float, ...] | None
    """In the action's units; None where it wants the robot to hold still."""
    source: int = 0
    """A value of `Source`."""
    policy: int = 0
    log_probability: float | None = None
    """Of the policy's own action, where that is what is wanted."""
    late: int = 0
    """Time from the tick to this report [ns]."""
    ruling: str = ""
    """What the feasibility filter decided, a value of `Ruling`; empty where it was not asked."""
    proposed: tuple[float, ...] | None = None
    """What the policy itself came up with, where that is not what is wanted: as it was drawn, before its limits cut
    anything off, and where the filter did not let it pass."""

    @property
    def acts(self) -> bool:
        """Whether the robot is to do something of which can be learned: an action, or a stop that the filter wants."""
        return self.action is not None or self.ruling == "stop"


@dataclass(frozen=True, slots=True)
class Sent:
    """What the guardian made of a tick."""

    __pydantic_config__ = _EXACT

    tick: int
    """Of the actor's step that this answers [ns]."""
    episode: str
    action: tuple[float, ...]
    """What was sent, in the action's units."""
    verdict: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """Whether an episode is under way; the recorder's to say."""

    __pydantic_config__ = _EXACT

    episode: str
    """Names it; empty before the first."""
    running: bool
    stamp: int
    """Since when [ns]."""
    task: str = ""
    terminated: bool = False
    """How it ended: the task ended ..."""
    success: bool | None = None
    """... with or without success; None where nobody said."""
    reason: str = ""
    evaluation: bool = False
    """Whether it is to show how good the policy is: it acts by its mean, and stays the same until such episodes end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of the task after a step: by the simulation, or by a success classifier."""

    __pydantic_config__ = _EXACT

    stamp: int
    """Of the observation that is judged [ns]."""
    success: bool
    terminated: bool
    truncated: bool = False
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class LearnerState:
    """What the learner has handed over, and how far it is."""

    __pydantic_config__ = _EXACT

    episodes: int
    """Of the store, that the newest policy has learned from."""
    updates: int
    """Since pretraining began."""
    policy: int
    """Hash of the newest policy."""
    problem: str = ""
    """What is wrong with what it learns from; empty where nothing is."""
    learned: int = 0
    """Episodes that it has learned from, be they in a policy that was handed over or not."""
    behind: int = 0
    """Episodes that are in the store and were not learned from yet."""
    recordings: tuple[str, ...] = ()
    """That it has learned from last, the newest at the end; several, since of two states in a row one may be missed."""


def of(topic: str, backward: bool) -> str:
    """A topic that there is one of for each direction."""
    return f"{BACKWARD}/{topic}" if backward else topic


def encode(report: ActorStep | Sent | EpisodeState | Outcome | LearnerState) -> str:
    """As JSON. NaN and infinity are written by name, so that a policy's nonsense reaches the guardian as it is."""
    return json.dumps(asdict(report), separators=(",", ":"))


def decode(cls: type[R], text: str) -> R:
    """Back from JSON.

    Raises:
        InputError: for what is no report of this kind.
    """
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{cls.__name__}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{cls.__name__}: expected an object, got {type(content).__name__}")
    return parse(cls, content, cls.__name__)


def finite(values: tuple[float, ...]) -> bool:
    return all(map(math.isfinite, values))
