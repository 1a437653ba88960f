"""What a report on a label set is made of: the labels, how they came about, the truth, and the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.page import picture
from episodes.snapshot import Snapshot
from rewards.evidence import Evidence
from rewards.moments import Moments
from rewards.report.timelines import Known


@dataclass(frozen=True)
class Material:
    """Everything about one label set; rows are those of the store's observations."""

    moments: Moments
    labels: LabelSet
    known: Known
    evidence: Evidence | None
    truth: str | None
    """The label set that holds the true rewards, where the store has it."""
    notes: list[str]
    """What is missing, in sentences."""

    @classmethod
    def of(cls, snapshot: Snapshot, name: str) -> "Material":
        """Gather all of it; what is not there is noted.

        Raises:
            InputError: where there is no such label set.
        """
        labels = snapshot.labels(name)
        evidence, notes = _evidence(snapshot, labels)
        truth = None if evidence is None else evidence.truth
        if truth is not None and truth not in snapshot.label_names:
            notes.append(f"These labels were measured against label set {truth!r}, which the store does not have.")
            truth = None
        true = {} if truth is None else snapshot.labels(truth).values
        threshold = None if evidence is None or evidence.success is None else evidence.success.threshold
        known = Known.of(snapshot, labels.values, true, threshold)
        looked_at = labels.provenance.get("config", {}).get("labeller", {}).get("cameras")
        moments = Moments.of(snapshot, looked_at or snapshot.contract.camera_names)
        return cls(moments, labels, known, evidence, truth, notes)

    @property
    def snapshot(self) -> Snapshot:
        return self.moments.snapshot

    def pictures(self, rows: Sequence[int], side: int) -> dict[int, list[str]]:
        """Per row, its picture by each camera, as addresses; without cameras, none."""
        ordered = np.unique(np.array(rows, np.int64))
        if not len(ordered) or not self.moments.cameras:
            return {row: [] for row in ordered.tolist()}
        return {
            frame.observation: [picture(frame.images[camera], side) for camera in self.moments.cameras]
            for frame in self.moments.frames(ordered)
        }

    def place(self, row: int) -> tuple[int, int]:
        """Episode, and observation in it, of a row."""
        episode = int(self.moments.episode[row])
        return episode, row - int(self.snapshot.observation_starts[episode])


def _evidence(snapshot: Snapshot, labels: LabelSet) -> tuple[Evidence | None, list[str]]:
    """The evidence, or a note on why there is none."""
    made = labels.provenance
    try:
        return Evidence.load(snapshot.path / "labellers" / labels.name / "evidence.json", snapshot), []
    except InputError as error:
        if "labeller" in made:
            why = f"The evidence of how these labels were made is missing: {error}."
        else:
            why = f"No labeller made these labels (method {made.get('method')!r}): evidence is missing."
        return None, [f"{why} What follows is from the labels alone."]
