"""Frames as frozen features: made once, then shared by judge, reward model and success classifier."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from episodes.encoders import Encoder, encoder_of, features_of, load_encoder, placed
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.vision_language import VisionLanguage, load_vision_language
from rewards.augment import altered


@dataclass(frozen=True, slots=True)
class Sight:
    """A store through one encoder."""

    encoder: Encoder
    model: VisionLanguage | None
    """Whose pictures' half the encoder is; None for one that knows no texts."""
    tables: dict[str, np.ndarray]
    """Per camera: shape (N observations, F), float32."""

    @classmethod
    def of(cls, store: Store, snapshot: Snapshot, cameras: Sequence[str], name: str, device: torch.device) -> "Sight":
        """Load the encoder of that name and everything it sees, from the store's own cache where that has it.

        Raises:
            InputError: as `load_encoder` and `load_vision_language`.
        """
        kind, _, model_name = name.partition(":")
        model = load_vision_language(model_name) if kind == "open_clip" else None
        encoder = (
            load_encoder(name, device, fast=True) if model is None else placed(encoder_of(model), device, fast=True)
        )
        tables = {camera: features_of(store, snapshot, camera, encoder) for camera in cameras}
        return cls(encoder, model, tables)

    def joined(self) -> np.ndarray:
        """Shape (N, cameras x F): all cameras side by side, in order."""
        return np.concatenate(list(self.tables.values()), axis=1)

    def text(self, sentence: str) -> np.ndarray | None:
        """The sentence among the pictures: a unit vector, shape (F,); None where the encoder knows no texts."""
        return None if self.model is None else self.model.encode_texts([sentence])[0]

    def altered(self, snapshot: Snapshot, rows: np.ndarray, copies: int, rng: np.random.Generator) -> np.ndarray:
        """Features of frames that were shifted, and made brighter or darker: shape (copies, n, cameras x F)."""
        joined = []
        for camera in self.tables:
            frames = snapshot.images_at(camera, rows)
            joined.append([self.encoder.encode(altered(frames, rng)) for _ in range(copies)])
        size = sum(table.shape[1] for table in self.tables.values())
        return np.concatenate(joined, axis=2) if copies else np.zeros((0, len(rows), size), np.float32)
