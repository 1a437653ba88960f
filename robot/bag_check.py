"""Does a contract describe what a bag holds? Topics, types, rates, ages, joints and limits, one finding each."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from episodes.errors import InputError
from robot.bag_import import find_topic
from robot.bag_inputs import Commands, Inputs, InputSeen, Seen
from robot.bags import Bag, BagMessage, open_bag
from robot.contract import CameraTopic, Command, Observation, RobotContract
from robot.frames import Arrival
from robot.messages import header_stamp

RATE_FACTOR = 1.5
"""A rate that is off by more than this is another one than the contract says."""
TOO_OLD = 0.01
"""Part of the ticks at which an input may be too old: an episode ends at each of them."""
KEPT = 2_000_000_000
"""How much of the inputs is held while a bag is gone through [ns]."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str
    remedy: str = ""
    """What to do; empty where it is ok."""


class _Input:
    """What a bag says of one input."""

    def __init__(self, source: Observation | CameraTopic, seen: InputSeen):
        self.source, self.seen = source, seen
        self.stamps = array("q")
        """Of what could be used [ns]."""
        self.without_stamp = 0


def check_bag(contract: RobotContract, path: Path, namespace: str = "") -> list[Finding]:
    """What is found of everything that a contract names, in its order.

    Raises:
        InputError: where there is no bag.
    """
    with open_bag(path) as bag:
        found: list[Finding] = []
        names: dict[str, str] = {}
        for source in (*contract.observations, *contract.cameras, *contract.commands):
            if source.topic not in names:
                finding, name = _topic(bag, source.topic, source.type, namespace)
                found.append(finding)
                names |= {source.topic: name} if name else {}
        rule = contract.episodes
        if rule.topic is not None and rule.type is not None:
            found.append(_topic(bag, rule.topic, rule.type, namespace)[0])
        found += _contents(contract, bag, names)
        if bag.cut is not None:
            found.append(Finding("bag", ok=False, detail=bag.cut, remedy="what was before that can be imported"))
    # Two inputs of one topic may be told alike.
    return list(dict.fromkeys(replace(each, remedy="") if each.ok else each for each in found))


def _topic(bag: Bag, topic: str, kind: str, namespace: str) -> tuple[Finding, str]:
    """Whether a topic is there, and what it is called; empty where nothing of it can be read."""
    try:
        name = find_topic(bag, topic, kind, namespace)
        bag.messages([name])
    except InputError as error:
        detail = str(error).removeprefix(f"{bag.path}: ")
        return Finding(topic, ok=False, detail=detail, remedy="correct the topic, its type or the namespace"), ""
    count = bag.topics[name].count
    if not count:
        return Finding(topic, ok=False, detail=f"no message on {name}", remedy="record with its publisher running"), ""
    return Finding(topic, ok=True, detail=f"{count} messages of {kind} on {name}"), name


def _contents(contract: RobotContract, bag: Bag, names: dict[str, str]) -> Iterator[Finding]:
    """Go through what can be read, once."""
    seen = Seen.of(contract, None)
    inputs = Inputs(contract, seen)
    readings = [_Input(source, seen.inputs[source.topic]) for source in inputs.sources]
    commands = {c.topic: _Sent(c, contract, seen.inputs[c.topic]) for c in contract.commands}
    by_topic = {topic: [each for each in readings if each.source.topic == topic] for topic in inputs.topics}
    by_name = {name: topic for topic, name in names.items()}
    for message in bag.messages(by_name):
        topic = by_name[message.topic]
        if topic in by_topic:
            stamps = inputs.stamps(topic, message)
            if inputs.jumps(topic, stamps):
                inputs.clear()
            before = seen.inputs[topic].unusable
            inputs.add(topic, message, stamps)
            inputs.forget_before(inputs.newest - KEPT)
            for each, stamp in zip(by_topic[topic], stamps, strict=True):
                if stamp is None:
                    each.without_stamp += 1
                elif seen.inputs[topic].unusable == before:
                    each.stamps.append(stamp)
        if topic in commands:
            commands[topic].add(message)
    seen.finish(bag, names)
    ticks = _ticks(contract, [each for each in readings if each.source.topic in names])
    for each in readings:
        if each.source.topic in names:
            yield from _input_findings(each, ticks)
    for command in commands.values():
        if command.command.topic in names:
            yield from command.findings()


def _ticks(contract: RobotContract, readings: list[_Input]) -> np.ndarray:
    """Every period of the time in which there is something of all inputs: shape (n,) [ns]."""
    if not readings or not all(each.stamps for each in readings):
        return np.zeros(0, np.int64)
    begin, end = max(min(each.stamps) for each in readings), min(max(each.stamps) for each in readings)
    return np.arange(begin, end + 1, contract.period, dtype=np.int64)


def _input_findings(reading: _Input, ticks: np.ndarray) -> Iterator[Finding]:
    source, seen = reading.source, reading.seen
    if reading.without_stamp:
        detail = f"{reading.without_stamp} messages whose header says no time"
        yield Finding(f"{source.topic} stamps", ok=False, detail=detail, remedy="stamp: publish")
    elif seen.unusable:
        detail = f"{seen.unusable} of {seen.messages} messages cannot be used, the first: {seen.reason}"
        yield Finding(f"{source.topic} content", ok=False, detail=detail, remedy="name what the messages have")
    jumps = seen.arrivals[Arrival.CLOCK_JUMP]
    if jumps:
        remedy = "an episode ends there; keep the clocks synchronised while recording"
        yield Finding(f"{source.topic} clock", ok=False, detail=f"set back {jumps} times", remedy=remedy)
    stamps = np.unique(np.frombuffer(reading.stamps, np.int64))
    if len(stamps) < 2:
        return
    rate = 1e9 / float(np.median(np.diff(stamps)))
    yield Finding(
        f"{source.topic} rate",
        ok=1 / RATE_FACTOR <= rate / source.rate <= RATE_FACTOR,
        detail=f"{rate:.3g} Hz, {source.rate:g} Hz in the contract",
        remedy=f"rate: {rate:.3g}",
    )
    if len(ticks) and not jumps:
        ages = (ticks - stamps[np.searchsorted(stamps, ticks, "right") - 1]) / 1e9
        old = float((ages > source.max_age).mean())
        yield Finding(
            f"{source.topic} age",
            ok=old <= TOO_OLD,
            detail=f"{np.median(ages):.3f} s median, {ages.max():.3f} s at most, too old (over {source.max_age:g} s) "
            f"at {old:.1%} of {len(ticks)} ticks",
            remedy=f"max_age: {np.quantile(ages, 1 - TOO_OLD) * 1.2:.2g}, if what is that old still says something",
        )


class _Sent:
    """The commands on one topic, beside their limits."""

    def __init__(self, command: Command, contract: RobotContract, seen: InputSeen):
        self.command = command
        self._rate, self._seen = contract.rate, seen
        self._commands = Commands(command, contract.period, seen)
        self._low, self._high = np.array([(entry.low, entry.high) for entry in command.fields]).T
        # What was sent may have been rounded to 32 bits.
        self._slack = 1e-6 * np.maximum(np.abs(self._low), np.abs(self._high))
        self._least, self._most = np.full((2, len(command.fields)), np.inf) * [[1], [-1]]
        self._outside = np.zeros(len(command.fields), np.int64)
        self._stamps = array("q")

    def add(self, message: BagMessage) -> None:
        values = self._commands.read(message.message)
        if values is None:
            return
        self._stamps.append(header_stamp(message.message) or message.published)
        self._least, self._most = np.minimum(self._least, values), np.maximum(self._most, values)
        self._outside += (values < self._low - self._slack) | (values > self._high + self._slack)

    def findings(self) -> Iterator[Finding]:
        topic, count = self.command.topic, len(self._stamps)
        if self._seen.unusable:
            detail = f"{self._seen.unusable} commands cannot be used, the first: {self._seen.reason}"
            yield Finding(f"{topic} content", ok=False, detail=detail, remedy="correct paths and joints")
        if count > 1:
            stamps = np.unique(np.frombuffer(self._stamps, np.int64))
            rate = 1e9 / float(np.median(np.diff(stamps)))
            yield Finding(f"{topic} rate", ok=True, detail=f"{rate:.3g} Hz, at steps of {self._rate:g} Hz")
        for entry, outside, least, most in zip(
            self.command.fields, self._outside.tolist(), self._least, self._most, strict=True
        ):
            if count:
                unit = f" {entry.unit}" if entry.unit else ""
                yield Finding(
                    f"{topic} {entry.name}",
                    ok=not outside,
                    detail=f"from {least:.4g} to {most:.4g}{unit}, limits {entry.low:g} to {entry.high:g}; "
                    f"{outside} of {count} outside",
                    remedy="widen its limits, or correct its scale",
                )
