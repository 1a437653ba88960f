"""Node `courier`: recordings from the robot's host to the learner's, and policies back, where they share no disk."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from std_msgs.msg import MultiArrayDimension, String, UInt8MultiArray

from episodes.errors import InputError
from episodes.store import Store
from finetune.run import CHECKPOINTS, Run
from robot.into_store import IntoStore
from robot.nodes.shell import EVERYTHING, LATCHED, Shell
from robot.parcels import Fetch, Parcel, Shelf, Wanted, decode_offer, decode_wanted, encode, parcel_of

LOOK = 1.0
"""Between two looks for what is to be offered [s]."""
ASK = 0.1
"""Between two looks for what has not come [s]."""
IMPORT = 8.0
"""How long an import that is under way is waited for at the end [s]."""
RECORDINGS, POLICIES = "courier/recordings", "courier/policies"


class CourierNode(Shell):
    """One on each host. What is carried is asked for by who wants it, checked, and there whole or not at all."""

    def __init__(self) -> None:
        super().__init__("courier")
        self.side = self.parameter("side", "robot", "robot: gives recordings, takes policies; learner: the other way")
        self.bags = self.parameter("bags", "", "folder of recordings")
        self.new = self.parameter("new", "", "folder of the run that is made")
        self.store = self.parameter("store", "", "of the learner's: store that recordings are brought into")
        self.place = self.parameter("place", "real", "of the learner's: real or sim")
        if self.side not in ("robot", "learner"):
            raise InputError(f"side {self.side!r}: expected robot or learner")
        self._imports: IntoStore | None = None
        self._met = False
        """Whether there ever was somebody on the other side."""

    def configure(self) -> None:
        for name, value in (("bags", self.bags), ("new", self.new)):
            if not value:
                raise InputError(f"node courier: give it -p {name}:=FOLDER")
        self._bags, self._run = Path(self.bags), Run(Path(self.new))
        self._problem = self._told = ""
        checkpoints = self._run.path / CHECKPOINTS
        for folder in (self._bags, checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        if self.side == "robot":
            self._shelf = Shelf(self._bags)
            self._give(RECORDINGS)
            there = self._run.has_checkpoint() and self._run.last.is_dir()
            self._policy = parcel_of(self._run.last) if there else None
            self._fetch = Fetch(checkpoints, lambda parcel: parcel == self._policy, self._policy_came)
            self._take(POLICIES)
        else:
            if not self.store:
                raise InputError("node courier: the learner's side needs -p store:=FOLDER")
            self.read_contract()
            self._shelf = Shelf(checkpoints)
            self._give(POLICIES)
            self._fetch = Fetch(self._bags, lambda parcel: (self._bags / parcel.name).is_file(), self._recording_came)
            self._take(RECORDINGS)
        self.every(1.0, self._on_diagnostics)

    def activate(self) -> None:
        if self.side == "learner":
            self._imports = IntoStore(self._bags, self.store, self.contract_path, self.place, self._say_problem)
            for recording in self._not_in_store():
                self._imports.add(recording)
            self._imports.start()

    def deactivate(self) -> None:
        if self._imports is not None:
            self._imports.stop(IMPORT)
            self._imports = None

    def _give(self, channel: str) -> None:
        """Offer what the shelf has, and answer whoever asks for a piece of it."""
        self._offers = self.create_publisher(String, f"{channel}/offer", LATCHED)
        self._pieces = self.create_publisher(UInt8MultiArray, f"{channel}/piece", EVERYTHING)
        self.create_subscription(String, f"{channel}/wanted", self._on_wanted, EVERYTHING)
        self.every(LOOK, self._look_for_new)

    def _take(self, channel: str) -> None:
        """Ask for what is offered and not here."""
        self._wants = self.create_publisher(String, f"{channel}/wanted", EVERYTHING)
        self.create_subscription(String, f"{channel}/offer", self._on_offer, LATCHED)
        self.create_subscription(UInt8MultiArray, f"{channel}/piece", self._on_piece, EVERYTHING)
        self.every(ASK, self._ask)

    def _look_for_new(self) -> None:
        try:
            offer = self._shelf.put(self._names())
        except OSError as error:
            # A checkpoint that was let go of while it was looked at; the newest is another one by now.
            self.get_logger().debug(str(error))
            return
        if offer is not None:
            self._offers.publish(self.say(encode(offer)))

    def _names(self) -> list[str]:
        if self.side == "robot":
            return sorted(path.name for path in self._bags.glob("*.mcap"))
        return [self._run.last.name] if self._run.has_checkpoint() else []

    def _on_wanted(self, message: String) -> None:
        wanted = self._read(decode_wanted, message.data)
        piece = None if wanted is None else self._shelf.piece(wanted)
        if piece is not None:
            answer = UInt8MultiArray(data=piece)
            answer.layout.dim = [MultiArrayDimension(label=message.data, size=len(piece), stride=1)]
            self._pieces.publish(answer)

    def _on_offer(self, message: String) -> None:
        offer = self._read(decode_offer, message.data)
        if offer is None:
            return
        try:
            self._fetch.offered(offer)
        except InputError as error:
            self._say_problem(str(error))
        self._ask()

    def _on_piece(self, message: UInt8MultiArray) -> None:
        dimensions: Any = message.layout.dim
        label = dimensions[0].label if dimensions else ""
        wanted: Wanted | None = self._read(decode_wanted, label)
        if wanted is not None:
            self._fetch.received(wanted, bytes(message.data))
            self._ask()

    def _ask(self) -> None:
        wanted = self._fetch.wanted(time.monotonic())
        if self._fetch.problem != self._told:
            self._told = self._fetch.problem
            if self._told:
                self._say_problem(self._told)
        if wanted is not None:
            self._wants.publish(self.say(encode(wanted)))

    def _read(self, decode: Callable[[str], Any], text: str) -> Any:
        try:
            return decode(text)
        except InputError as error:
            self.get_logger().warn(f"a message that cannot be read: {error}", throttle_duration_sec=5.0)
            return None

    def _policy_came(self, policy: Parcel) -> None:
        """By its content, since another run's policies have the same names; an older one need not be there any more."""
        self._run.mark_last(int(policy.name))
        self._policy = policy
        self.get_logger().info(f"policy {policy.name}")

    def _recording_came(self, recording: Parcel) -> None:
        if self._imports is not None:
            self._imports.add(self._bags / recording.name)

    def _not_in_store(self) -> list[Path]:
        """Recordings that came and were not brought in, as where somebody pulled the plug."""
        there: set[str] = set()
        if Path(self.store).is_dir():
            origins = [metadata["origin"] for metadata in Store.open(Path(self.store)).snapshot().metadata]
            there = {origin.rpartition("/")[2] for origin in origins}
        return [path for path in sorted(self._bags.glob("*.mcap")) if path.stem not in there]

    def _say_problem(self, text: str) -> None:
        self._problem = text
        self.get_logger().error(text)

    def _on_diagnostics(self) -> None:
        values = {"missing": self._fetch.missing, "importing": 0 if self._imports is None else self._imports.waiting}
        there = self.count_publishers(f"{POLICIES if self.side == 'robot' else RECORDINGS}/offer") > 0
        self._met |= there
        if not there:
            other = "the learner's host" if self.side == "robot" else "the robot's host"
            level, how = ("error", "is gone") if self._met else ("warn", "is not there yet")
            besides = f" ({self._problem})" if self._problem else ""
            self.publish_diagnostics(level, f"{other} {how}; what there is for it is kept{besides}", values)
        elif self._problem or self._fetch.problem:
            self.publish_diagnostics("error", self._problem or self._fetch.problem, values)
            self._problem = ""
        else:
            self.publish_diagnostics("ok", "carrying", values)


def make() -> CourierNode:
    return CourierNode()
