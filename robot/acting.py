"""The actor without ROS: from messages and an episode's state to one step per tick."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from episodes.contract import Contract
from episodes.episode import Source
from episodes.errors import InputError
from policies.feasibility import Judgement, Ruling
from robot.contract import Intervention, RobotContract
from robot.frames import Frame
from robot.messages import header_stamp, path_of, pressed
from robot.reports import ActorStep, EpisodeState

LONGER = 2.0
"""For how long an actor goes on after an episode's last step, where it does not hear that the episode is over [s]."""


class ActingPolicy(Protocol):
    """What acts: `policies.policy.Policy`, or an operator in a test."""

    policy_hash: int
    deterministic: bool
    """Whether it acts by its mean, or draws."""

    def reset(self, seed: int) -> None: ...

    def replan(self, seed: int) -> None: ...

    def observe(self, observation: dict[str, np.ndarray]) -> None: ...

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray: ...


class Judge(Protocol):
    """What judges the policy's actions: `policies.feasibility.FeasibilityFilter`."""

    def reset(self, seed: int) -> None: ...

    def judge(self, observation: dict[str, np.ndarray], own: np.ndarray, policy: object = None) -> Judgement: ...


@dataclass
class Hands:
    """A person's input device: what it said last, and when."""

    intervention: Intervention
    action_names: list[str]
    low: np.ndarray
    high: np.ndarray
    _action: np.ndarray | None = None
    _stamp: int = 0

    def receive(self, message: Any, received: int) -> None:
        """Take a message at a time [ns]. A device whose message lacks a field, or a number, is let go of."""
        try:
            engaged = pressed(path_of(self.intervention.engaged).get(message))
            action = np.zeros(len(self.action_names))
            for axis in self.intervention.axes:
                action[self.action_names.index(axis.action)] = axis.scale * float(path_of(axis.path).get(message))
        except (LookupError, TypeError, ValueError):
            self._action = None
            return
        # A device whose clock is ahead must not be believed for longer than others.
        self._stamp = min(header_stamp(message) or received, received)
        self._action = np.clip(action, self.low, self.high) if engaged and np.isfinite(action).all() else None

    def action(self, now: int) -> np.ndarray | None:
        """What the person wants, shape (A,); None while the policy has the robot."""
        if self._action is None or now - self._stamp > self.intervention.max_age * 1e9:
            return None
        return self._action


class Actor:
    """Decides at every tick; swaps policies only between episodes.

    Args:
        contract: of the robot.
        load: makes the policy that the next episode is acted with; may give the same one again.
        stochastic: whether it draws its actions, but for evaluations.
        judge: lets what is feasible of the policy's actions pass; all of them where None. A person's are guarded, and
            not judged.
        by_number: draws begin with an episode's number, so that a simulation comes out the same again; else with its
            stamp, so that an actor that is started again does not explore the same once more.
    """

    def __init__(
        self,
        contract: RobotContract,
        load: Callable[[], ActingPolicy],
        *,
        stochastic: bool = False,
        judge: Judge | None = None,
        by_number: bool = True,
    ):
        self.contract = contract
        self.judge = judge
        self.rulings = dict.fromkeys(Ruling, 0)
        """How often each was made, since the beginning."""
        layout = contract.layout()
        self.hands: Hands | None = None
        if contract.intervention is not None:
            self.hands = Hands(contract.intervention, layout.action_names, layout.action_low, layout.action_high)
        self._limits = np.array([[field.low, field.high] for _, field in contract.action_fields]).T
        """Low and high in full precision, shape (2, A)."""
        self._load, self._stochastic, self._by_number = load, stochastic, by_number
        self.policy = load()
        self._episode = EpisodeState("", False, 0)
        self._episodes = 0
        self._interrupted = False
        """Whether what the policy has planned was overtaken by somebody else's step, or by one that nobody made."""
        self.steps = 0
        """Of this episode."""
        # Who says when an episode is over may have died.
        limit = contract.max_steps
        self._most_steps = math.inf if limit is None else limit + round(LONGER * contract.rate)

    @property
    def running(self) -> bool:
        return self._episode.running

    def begins(self, state: EpisodeState) -> bool:
        """Whether a state is the first that is heard of an episode under way."""
        return state.running and state.episode != self._episode.episode

    def prepare(self) -> None:
        """Between episodes: take the newest policy."""
        assert not self.running, "a policy is not changed while it acts"
        self.policy = self._load()

    def on_episode(self, state: EpisodeState) -> None:
        """An episode begins or ends. One that was over stays over, whoever comes back and says that it is not."""
        if state.running and not self.running and state.episode == self._episode.episode:
            return
        if self.begins(state):
            self.policy.deterministic = state.evaluation or not self._stochastic
            seed = self._episodes if self._by_number else state.stamp
            self.policy.reset(seed)
            if self.judge is not None:
                self.judge.reset(seed)
            self._episodes += 1
            self.steps = 0
            self._interrupted = False
        self._episode = state

    def stays(self, state: EpisodeState) -> bool:
        """Whether the policy has to stay what it is for an episode: the same one is being evaluated."""
        return state.evaluation and self._episode.evaluation and state.task == self._episode.task

    def abandon(self) -> None:
        """Nobody is there any more who would say when the episode is over: it is."""
        self._episode = replace(self._episode, running=False)

    def step(self, frame: Frame, now: int) -> ActorStep:
        """What is wanted at a frame's tick. Holding still where no episode is under way or something cannot be seen."""
        episode = self._episode.episode if self.running else ""
        blind = not frame.usable or frame.tick < self._episode.stamp
        if not self.running or blind or self.steps >= self._most_steps:
            self._interrupted = self.steps > 0
            return ActorStep(frame.tick, episode, frame.stamps, None, late=now - frame.tick)
        self.steps += 1
        observation = {"state": frame.state, **{f"image/{name}": image for name, image in frame.images.items()}}
        taken = None if self.hands is None else self.hands.action(now)
        if taken is not None:
            # What it acts on later has a history, and so has this step in the recording.
            self.policy.observe(observation)
            self._interrupted = True
            action, source = self._at_limits(taken), int(Source.INTERVENTION)
            return ActorStep(frame.tick, episode, frame.stamps, action, source, late=now - frame.tick)
        if self._interrupted:
            # What it has planned is forgotten; its draws go on from a seed that no episode begins with.
            self.policy.replan(frame.tick)
            self._interrupted = False
        return replace(self._by_policy(frame, observation), episode=episode, late=now - frame.tick)

    def _by_policy(self, frame: Frame, observation: dict[str, np.ndarray]) -> ActorStep:
        """What the policy wants, as far as the filter lets it pass."""
        own = self.policy.act(observation)
        # Known of policies that learn from their own draws.
        drawn = getattr(self.policy, "proposed", None)
        step = ActorStep(
            frame.tick,
            "",
            frame.stamps,
            self._at_limits(own),
            int(Source.POLICY),
            self.policy.policy_hash,
            getattr(self.policy, "log_probability", None),
            proposed=None if drawn is None else tuple(drawn.tolist()),
        )
        if self.judge is None:
            return step
        judged = self.judge.judge(observation, own, self.policy)
        self.rulings[judged.ruling] += 1
        if judged.ruling == Ruling.OWN:
            return replace(step, ruling=str(judged.ruling))
        action = None if judged.action is None else self._at_limits(judged.action)
        proposed = step.proposed or step.action
        return replace(step, action=action, log_probability=None, ruling=str(judged.ruling), proposed=proposed)

    def _at_limits(self, wanted: np.ndarray) -> tuple[float, ...]:
        """A float32 that is meant to be at a limit is that limit, and not a billionth beyond it."""
        action = np.asarray(wanted, np.float64)
        for limit in self._limits:
            action = np.where(np.asarray(wanted, np.float32) == limit.astype(np.float32), limit, action)
        return tuple(action.tolist())


class Waiting:
    """For how long an actor that steps by its inputs waits for one that does not come.

    Half a period after something new has come, and half a period after the step was due. The stamps do not tell: an
    input that is quicker than the actor always has a newer one, and a camera may be behind by more than that.
    """

    def __init__(self, period: int):
        self._period = period
        self.forget()

    def forget(self) -> None:
        """The clock was set back."""
        self._made = self._since = 0

    def stepped(self, now: int) -> None:
        """A step was made [ns]."""
        self._made, self._since = now, 0

    def over(self, now: int) -> bool:
        """Whether it has waited long enough, where something new is there [ns]."""
        self._since = self._since or now
        return now >= max(self._since + self._period // 2, self._made + 3 * self._period // 2)


def check_policy_fits(trained: Contract | None, camera: str | None, contract: RobotContract) -> None:
    """Raise an InputError unless a policy that was trained on one contract can serve a robot's."""
    if trained is None:
        raise InputError("the policy does not say what it was trained on; it cannot be given a robot")
    there = contract.layout()
    for kind, expected, found in (
        ("state", [(e.name, e.unit) for e in trained.state], [(e.name, e.unit) for e in there.state]),
        ("action", [(e.name, e.unit) for e in trained.action], [(e.name, e.unit) for e in there.action]),
    ):
        if expected != found:
            differing = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), None)
            where = f"{len(found)} entries, expected {len(expected)}"
            if differing is not None:
                where = f"entry {differing} is {found[differing]}, expected {expected[differing]}"
            raise InputError(f"contract {contract.name!r} does not fit the policy: {kind} {where}")
    if trained.name != there.name:
        raise InputError(f"contract {there.name!r}: the policy was trained on {trained.name!r}, another robot's layout")
    if trained.rate is not None and trained.rate != there.rate:
        raise InputError(
            f"contract {there.name!r}: {there.rate:g} Hz, and the policy was trained at {trained.rate:g} Hz"
        )
    for seen in trained.cameras:
        if seen.name == camera and seen not in there.cameras:
            raise InputError(
                f"contract {there.name!r}: the policy sees camera {camera!r} at {seen.height}x{seen.width}; it has: "
                + (", ".join(f"{c.name} {c.height}x{c.width}" for c in there.cameras) or "none")
            )
