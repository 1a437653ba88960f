"""The success classifier at work: frame by frame, while an episode is under way."""

from dataclasses import dataclass

import numpy as np
import torch

from episodes.errors import InputError
from rewards.labeller import Labeller, encoder_of_labeller


@dataclass(frozen=True, slots=True)
class Seen:
    """What one frame of an episode says."""

    probability: float
    """Of success, calibrated."""
    success: bool
    """Whether this frame and those before it make a success; true from then on."""
    from_start: bool
    """Whether every frame of the episode has passed so far: then nothing was done, and it is no success."""


class SuccessWatch:
    """Says of every frame whether the task is done: what `Labeller.combined` says of an episode afterwards.

    With one difference. A success is an event: what passes from the first frame on is called none, since whoever takes
    the beginning for the end sees something else than the task.

    Raises:
        InputError: where the labeller has no success classifier, or not the encoder that it was trained with.
    """

    def __init__(self, labeller: Labeller, device: torch.device):
        if labeller.classifier is None:
            raise InputError("these labels were made without a success classifier; mark episodes and label again")
        self.cameras = labeller.config.cameras
        """Whose pictures it looks at."""
        self._classifier = labeller.classifier
        self._encoder = encoder_of_labeller(labeller, device)
        assert self._encoder is not None, "a classifier looks at features"
        self.begin()

    def begin(self) -> None:
        """An episode begins."""
        self._frames = self._passed = 0
        self._success = False

    def see(self, images: dict[str, np.ndarray]) -> Seen:
        """The episode's next frame: uint8, shape (H, W, 3), of each of `cameras`."""
        assert self._encoder is not None
        features = np.concatenate([self._encoder.encode(images[name][None]) for name in self.cameras], axis=1)
        probability = float(self._classifier.probability(features)[0])
        self._frames += 1
        self._passed = self._passed + 1 if probability >= float(self._classifier.threshold) else 0
        from_start = self._passed == self._frames
        self._success |= self._passed >= self._classifier.config.hold and not from_start
        return Seen(probability, self._success, from_start)
