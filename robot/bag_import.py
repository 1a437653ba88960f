"""Importing bags, other people's and our own: which topics are meant, and their episodes, one at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from episodes.contract import Contract
from episodes.episode import Episode, EpisodeError
from episodes.errors import InputError
from episodes.importers.source import choose_cameras, listed
from robot.bag_episodes import Cutter, Setting
from robot.bag_inputs import Inputs, Seen
from robot.bag_recordings import STRING, Recordings
from robot.bag_rules import Reported
from robot.bags import HOLE, Bag, BagMessage, open_bag
from robot.contract import RobotContract
from robot.reports import EPISODE_TOPIC, OUTCOME_TOPIC, SENT_TOPIC, STEP_TOPIC

CLOCK = "/clock"
"""A topic that only simulations have."""

Found = Iterator[tuple[str, Episode | EpisodeError]]


class Assembler(Protocol):
    """Makes episodes of messages in the order of the log."""

    def take(self, topic: str, message: BagMessage) -> Iterable[tuple[str, Episode | EpisodeError]]:
        """The episodes that are complete with this message; `topic` is the contract's name for where it came from."""
        ...

    def hole(self) -> Iterable[tuple[str, Episode | EpisodeError]]:
        """Here a file of the bag is damaged: what was under way ends, and what comes begins anew."""
        ...

    def end(self, cut: str | None) -> Found:
        """The last episodes, now that the bag has ended, or was cut off."""
        ...


class BagSource:
    """Episodes of a rosbag2 recording under a robot's contract.

    A bag that this project recorded says itself what its steps were. In any other the contract's rate makes the steps
    and its rule the episodes; see `bag_episodes`.
    """

    format: ClassVar[str] = "rosbag2"
    layout: ClassVar[str] = "a folder with metadata.yaml, or one .mcap or .db3 file"
    contract: Contract
    ignored: tuple[str, ...]

    def __init__(
        self,
        path: Path,
        contract: RobotContract,
        *,
        task: str = "",
        namespace: str = "",
        cameras: Sequence[str] | None = None,
        place: Literal["real", "sim", ""] | None = None,
        progress: Callable[[Iterable[BagMessage]], Iterable[BagMessage]] = iter,
    ):
        """
        Args:
            task: what was to be done, in words; empty takes what the bag says, else the contract.
            namespace: that the contract's topics have in the bag; empty finds them where that is plain.
            cameras: names of the wanted ones; None wants all of them.
            place: where it was recorded; None takes a simulation for real unless the bag has its clock.
            progress: goes through `message_count` messages.

        Raises:
            InputError: where there is no bag, or it does not hold what the contract names.
        """
        self.path = path
        chosen = choose_cameras({camera.name: camera for camera in contract.cameras}, cameras, path)
        kept = tuple(camera for camera in contract.cameras if camera.name in chosen)
        self._whole = contract
        self._robot = replace(contract, cameras=kept)
        self.contract = self._robot.layout()
        self.found = 0
        """Episodes so far, usable or not."""
        self.progress = progress
        """May be replaced before the episodes are gone through, by one that knows `message_count`."""
        self._bag: Bag | None = open_bag(path)
        try:
            steps = _reports(self._bag, STEP_TOPIC, namespace)
            self.recorded = bool(steps)
            """Whether this project's actor moved the robot in it."""
            if not steps and _reports(self._bag, EPISODE_TOPIC, namespace):
                # The recorder alone: it knows the episodes, and somebody else moved the robot.
                self._robot = replace(self._robot, episodes=Reported.RULE)
            # All of our nodes are in one namespace.
            self._names = self._topics(
                self._bag, steps[0].removesuffix(f"/{STEP_TOPIC}") if len(steps) == 1 else namespace
            )
            there = self._bag.topics
            self.message_count = self._bag.count(self._names.values())
            """Messages that are read for the episodes."""
            for topic, name in self._names.items():
                if not there[name].count and topic not in (SENT_TOPIC, EPISODE_TOPIC, OUTCOME_TOPIC):
                    raise InputError(f"{path}: no message was recorded on {name}" + _damage(self._bag))
            self.ignored = tuple(name for name in there if there[name].count and name not in self._names.values())
        except InputError:
            self._bag.close()
            raise
        simulated = CLOCK in there and there[CLOCK].count > 0
        self._setting = Setting(path.name, task, place if place is not None else "sim" if simulated else "real")
        self.seen = Seen.of(self._robot, self._bag.cut)
        """What became of the messages; complete when the episodes have been gone through."""

    def __len__(self) -> int:
        """Episodes found so far: how many there are is known when all of the bag has been read."""
        return self.found

    def episodes(self) -> Found:
        """Reads the bag once; one episode is in memory at a time."""
        with self._bag or open_bag(self.path) as bag:
            self._bag, self.found = None, 0
            seen = self.seen = Seen.of(self._robot, bag.cut)
            inputs = Inputs(self._robot, seen)
            assembler: Assembler = (
                Recordings(self._whole, self._robot, inputs, self._setting)
                if self.recorded
                else Cutter(self._robot, inputs, self._setting)
            )
            by_name = {name: topic for topic, name in self._names.items()}
            damaged = goes_on = False
            for message in self.progress(bag.messages(by_name, holes=True)):
                hole = message.topic == HOLE
                damaged, goes_on = damaged or hole, not hole
                for each in assembler.hole() if hole else assembler.take(by_name[message.topic], message):
                    self.found += 1
                    yield each
            seen.finish(bag, self._names)
            # What is missing in the middle is no reason to doubt the end.
            for each in assembler.end(None if damaged and goes_on else bag.cut):
                self.found += 1
                yield each

    def _topics(self, bag: Bag, namespace: str) -> dict[str, str]:
        """The contract's names of the topics that are needed, and what they are called in the bag."""
        robot = self._robot
        wanted = {source.topic: source.type for source in (*robot.observations, *robot.cameras)}
        if self.recorded:
            # Of the others there may be none yet where a recording was cut off.
            reports = (SENT_TOPIC, EPISODE_TOPIC, OUTCOME_TOPIC)
            wanted |= dict.fromkeys([STEP_TOPIC, *(t for t in reports if places_of(bag, t, namespace))], STRING)
        else:
            wanted |= {command.topic: command.type for command in robot.commands}
            if robot.episodes.topic is not None and robot.episodes.type is not None:
                wanted[robot.episodes.topic] = robot.episodes.type
        return {topic: find_topic(bag, topic, kind, namespace) for topic, kind in wanted.items()}


def _reports(bag: Bag, topic: str, namespace: str) -> list[str]:
    """What a topic of this project's nodes is called in the bag, where one of them said something on it."""
    found = places_of(bag, topic, namespace)
    return [name for name in found if bag.topics[name].type == STRING and bag.topics[name].count]


def find_topic(bag: Bag, topic: str, kind: str, namespace: str = "") -> str:
    """What a contract's topic is called in a bag.

    Args:
        kind: the type that it has to have.
        namespace: that it is in; empty takes the topic itself, else the only one that ends in its name.

    Raises:
        InputError: where it is not there, or has another type, or there are several.
    """
    found = places_of(bag, topic, namespace)
    fitting = [name for name in found if bag.topics[name].type == kind]
    if not found:
        name = _absolute(topic, namespace)
        near = get_close_matches(name, bag.topics, n=3, cutoff=0.5)
        same = [each for each in bag.topics if bag.topics[each].type == kind and each not in near]
        hints = [f"did you mean {' or '.join(near)}?"] if near else []
        hints += [f"of type {kind} there are {listed(same)}"] if same else []
        hints = hints or [f"it holds {listed(bag.topics) or 'no topics'}"]
        why = "; ".join(hints) + _damage(bag)
        raise InputError(f"{bag.path}: topic {name} of the contract is not in the bag; {why}")
    if not fitting:
        name = found[0]
        raise InputError(f"{bag.path}: topic {name} is {bag.topics[name].type} in the bag, and {kind} in the contract")
    if len(fitting) > 1:
        raise InputError(f"{bag.path}: topic {topic!r} may be {' or '.join(fitting)}; say which namespace is meant")
    return fitting[0]


def places_of(bag: Bag, topic: str, namespace: str) -> list[str]:
    """The topics of a bag that a contract's topic may be."""
    name = _absolute(topic, namespace)
    if name in bag.topics:
        return [name]
    if namespace or topic.startswith("/"):
        return []
    return [each for each in bag.topics if each.endswith(name)]


def _damage(bag: Bag) -> str:
    """What may be to blame for what is not there."""
    return f" (the bag is not whole: {bag.cut})" if bag.cut else ""


def _absolute(topic: str, namespace: str) -> str:
    """A private name (`~/topic`) is below a node's, which nobody knows here."""
    topic = topic.removeprefix("~/")
    return topic if topic.startswith("/") else "/" + f"{namespace.strip('/')}/{topic}".lstrip("/")
