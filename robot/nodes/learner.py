"""Node `learner`: goes on learning while the robot works, and hands over what it has learned."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from std_msgs.msg import String

from episodes.errors import InputError
from episodes.typed import parse
from finetune.following import Following
from finetune.learner import Beginning, Learner, LearningConfig, learning_config
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from robot.nodes.shell import LATCHED, Shell
from robot.reports import LEARNER_TOPIC, LearnerState, encode

NAMED = 20
"""Recordings that are told of, of those that were learned from."""
LOOK = 0.2
"""Between two looks for new episodes where there was none [s]."""


class LearnerNode(Shell):
    """Watches a store and learns from every episode that comes into it, in its order.

    Nothing waits for it but who wants to: the robot goes on with the policy that it has, and takes a newer one between
    two episodes. It never asks for real time.
    """

    def __init__(self) -> None:
        super().__init__("learner")
        self.parent = self.parameter("run", "", "folder of the pretrained run that is gone on from")
        self.path = self.parameter("new", "", "folder of the run that is made; one that is there is gone on with")
        self.store = self.parameter("store", "", "store that the robot's episodes come into")
        self.settings = self.parameter("settings", "", "YAML of finetune's settings, such as {algorithm: rlpd}")
        self._thread: threading.Thread | None = None
        self._saying = threading.Lock()
        self._ending = threading.Event()
        self._following: Following | None = None

    def configure(self) -> None:
        for name, value in (("run", self.parent), ("new", self.path), ("store", self.store)):
            if not value:
                raise InputError(f"node learner: give it -p {name}:=FOLDER")
        self._state = self.create_publisher(String, LEARNER_TOPIC, LATCHED)
        self._following = Following(_learner(Path(self.parent), Path(self.path), self.settings), Path(self.store))
        if self.contract_path:
            # Before the robot has worked for nothing.
            self._following.check(self.read_contract().layout(), self.contract_path)
        self._say_state()
        self.every(1.0, self._on_diagnostics)

    def activate(self) -> None:
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def cleanup(self) -> None:
        if self._following is not None:
            self._following.close()
            self._following = None

    def _run(self) -> None:
        following = self._following
        assert following is not None
        try:
            while not self._ending.is_set():
                if following.step():
                    self._say_state()
                else:
                    self._ending.wait(LOOK)
            following.keep()
        except Exception as error:
            self.fail(error)

    def _say_state(self) -> None:
        """What has been learned; by the thread that learns, since in between nothing of it belongs together."""
        following = self._following
        assert following is not None
        learner = following.learner
        doubt, learned = learner.experience.doubt, learner.learned
        state = LearnerState(
            learner.saved_at,
            learner.algorithm.step,
            learner.policy,
            doubt,
            learned,
            following.behind,
            tuple(origin.rpartition("/")[2] for origin in following.origins(NAMED)),
        )
        with self._saying:
            self._said = state
            self._state.publish(self.say(encode(state)))

    def _say_behind(self, episodes: int) -> LearnerState:
        """The same again, with what has come meanwhile; returns it. Also where nothing has: an episode is not begun
        before this was heard."""
        with self._saying:
            self._said = replace(self._said, behind=episodes - self._said.learned)
            self._state.publish(self.say(encode(self._said)))
            return self._said

    def _on_diagnostics(self) -> None:
        following = self._following
        if following is None:
            return
        said = self._say_behind(following.episodes)
        learner, busy = following.learner, following.learning
        best = learner.trials.best
        total = busy + following.waiting
        values: dict[str, Any] = {
            "episodes": said.learned,
            "behind": said.behind,
            "updates": learner.algorithm.step,
            "best": "" if best is None else f"{best.rate:.2f} after {best.checkpoint} episodes",
            "waiting": f"{following.waiting / total:.2f}" if total else "",
            "at": time.strftime("%H:%M:%S"),
        }
        doubt = learner.experience.doubt
        self.publish_diagnostics("error" if doubt else "ok", doubt or "learning", values)


def _learner(parent: Path, path: Path, settings: str) -> Learner:
    """A learner at its beginning, or where its run was left."""
    given = yaml.safe_load(settings) if settings else {}
    if not isinstance(given, dict):
        raise InputError(f"node learner: settings {settings!r}, expected keys and values, such as {{algorithm: rlpd}}")
    config = learning_config(LearningConfig, {"checkpoint_every": 1} | given)
    if (path / "config.yaml").is_file():
        run = Run.open(path)
        _check_parent(run, parent)
        begun = parse(LearningConfig, run.config["online"], f"{path}/config.yaml")
        if given and config != begun:
            raise InputError(f"{path}: was begun with other settings than {settings}; leave them out, or begin anew")
        return Learner(run, begun, Beginning.of_run(run, begun))
    beginning = Beginning.of_parent(parent, config)
    return Learner(Run.create(path, beginning.written(parent, config)), config, beginning)


def _check_parent(run: Run, parent: Path) -> None:
    """Raise an InputError where a run that is there was begun from another one than is said now."""
    begun_from = Path(str(run.config["parent"]))
    if parent.resolve() == begun_from or load_checkpoint(Run.open(parent).last).hash == run.config["parent_checkpoint"]:
        return
    raise InputError(f"{run.path}: was begun from {begun_from}, and not from {parent}; give that, or a new folder")


def make() -> LearnerNode:
    return LearnerNode()
