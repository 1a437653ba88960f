"""Learning from a store while others add episodes to it: the robot acts somewhere else, at its own pace."""

import time
from dataclasses import replace
from pathlib import Path

from episodes.contract import Contract
from episodes.encoders import look_into
from episodes.errors import InputError
from episodes.snapshot import Snapshot
from episodes.store import Store
from finetune.learner import Learner, logged_of
from finetune.run import MetricsLog
from finetune.trials import Trial


class Following:
    """Gives a learner the episodes of a store, each when it has come, and keeps what it makes of them.

    Killed at any time and begun again, it goes on at the newest checkpoint: episodes after it are learned from again,
    in the same order and with the same result.
    """

    def __init__(self, learner: Learner, store: Path):
        """The store need not be there yet.

        Raises:
            InputError: where it holds episodes of another contract, or fewer than were learned from.
        """
        self.learner = learner
        self._path = store
        self._store: Store | None = None
        self.learning = self.waiting = 0.0
        """Time that went into taking and learning, and into waiting for episodes [s]."""
        self._since = time.monotonic()
        self._logged: Trial | None = None
        """The trial that was logged before it was over."""
        snapshot = self._snapshot()
        before = learner.episodes_before
        there = 0 if snapshot is None else snapshot.episodes
        if there < before:
            raise InputError(
                f"{store}: holds {there} episodes, and {learner.run.path} has learned from {before}; give the store "
                "that it was begun with"
            )
        if self._store is not None:
            learner.restore(self._store)
        begun = learner.run.has_checkpoint()
        self._log = MetricsLog(learner.run, resume_at=learner.learned if begun else -1)
        if not begun:
            # The first policy that whoever acts can take is the one that it begins with.
            learner.save()

    @property
    def episodes(self) -> int:
        """How many are there now."""
        snapshot = self._snapshot()
        return 0 if snapshot is None else snapshot.episodes

    @property
    def behind(self) -> int:
        """Episodes that are there and were not learned from yet."""
        return self.episodes - self.learner.learned

    def origins(self, newest: int) -> list[str]:
        """Where the episodes come from that were learned from last, at most so many."""
        snapshot, learned = self._snapshot(), self.learner.learned
        known = [] if snapshot is None else snapshot.metadata[max(learned - newest, 0) : learned]
        return [str(metadata["origin"]) for metadata in known]

    def step(self) -> bool:
        """Learn from the next episode, where one is there; whether one was."""
        snapshot, learner = self._snapshot(), self.learner
        if self._store is None or snapshot is None or snapshot.episodes <= learner.learned:
            return False
        began = time.monotonic()
        self.waiting += began - self._since
        episode = snapshot.episode(learner.learned)
        outcome = learner.take(episode, look_into(self._store, learner.learned, episode))
        metrics = learner.learn()
        self._log.write(learner.learned, outcome | metrics)
        if learner.learned % learner.config.checkpoint_every == 0:
            self._save()
        self._since = time.monotonic()
        self.learning += self._since - began
        return True

    def keep(self) -> None:
        """Make a checkpoint of what was learned since the last one, and log the trial that nothing has ended yet: it is
        judged when something follows."""
        if self.learner.learned > self.learner.saved_at:
            self._save()
        trial = self.learner.trials.under_way
        if trial is not None and trial != self._logged:
            self._log.write(self.learner.learned, logged_of(trial))
            self._logged = trial

    def close(self) -> None:
        self.keep()
        self._log.close()

    def _save(self) -> None:
        """A checkpoint; policies that are evaluated in episodes that were not learned from yet keep theirs."""
        learner, snapshot, tried = self.learner, self._snapshot(), set()
        for index in range(learner.learned, 0 if snapshot is None else snapshot.episodes):
            assert snapshot is not None
            if snapshot.metadata[index].get("evaluation"):
                rows = int(snapshot.step_starts[index]), int(snapshot.step_ends[index])
                tried.add(int(snapshot.column("policy", *rows).max()))
        learner.save(tried)

    def _snapshot(self) -> Snapshot | None:
        """What is in the store now; None while there is none."""
        if self._store is None:
            if not self._path.is_dir():
                return None
            self._store = Store.open(self._path)
            self.check(self._store.contract, str(self._path))
        return self._store.snapshot()

    def check(self, there: Contract, where: str) -> None:
        """Raise an InputError unless what is recorded can be learned from: the same numbers, and wanted pictures.

        Args:
            there: of the episodes that come, or will.
            where: what has that contract.
        """
        learner = self.learner
        ours = learner.data.contract
        difference = replace(ours, cameras=()).layout_difference(replace(there, cameras=()))
        looked_at = {learner.saved.camera, *(() if learner.labeller is None else learner.labeller.cameras)}
        for camera in ours.cameras:
            if camera.name in looked_at and camera not in there.cameras:
                difference = difference or f"no camera {camera.name!r} at {camera.height}x{camera.width}"
        if difference is not None:
            raise InputError(f"{where}: is of another contract than {learner.run.path}: {difference}")
