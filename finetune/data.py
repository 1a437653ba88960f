"""What a run learns from: a snapshot of a store under a label set, as transitions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.contract import Contract
from episodes.encoders import Encoder, features_of, load_encoder
from episodes.errors import InputError, unknown
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.transitions import Transitions
from finetune.config import TrainConfig


@dataclass(frozen=True, slots=True)
class OfflineData:
    """The transitions, and what a run writes down about where they came from."""

    transitions: Transitions
    contract: Contract
    encoder: Encoder | None
    origin: dict[str, Any]


def load_offline(store_path: Path, config: TrainConfig, snapshot_id: str | None = None) -> OfflineData:
    """Load what the configuration asks for, from the newest snapshot or the one a run was begun with."""
    store = Store.open(store_path)
    snapshot = store.snapshot(snapshot_id)
    if not snapshot.episodes:
        raise InputError(f"{store_path}: holds no episodes yet")
    labels = snapshot.labels(config.labels)
    if "reward" not in labels.values:
        raise InputError(f"{store_path}: label set {labels.name!r} has no rewards, only {sorted(labels.values)}")
    if config.camera is not None and config.camera not in snapshot.contract.camera_names:
        raise unknown("camera", config.camera, snapshot.contract.camera_names, str(store_path))
    encoder = None if config.camera is None else load_encoder(config.encoder)
    features = None
    if encoder is not None and config.camera is not None:
        features = features_of(store, snapshot, config.camera, encoder)
    transitions = Transitions.load(snapshot, labels, config.sampling, features)
    store.tag(f"run-{snapshot.id}", snapshot.id)
    return OfflineData(transitions, snapshot.contract, encoder, _origin(store_path, snapshot, config, transitions))


def _origin(store_path: Path, snapshot: Snapshot, config: TrainConfig, transitions: Transitions) -> dict[str, Any]:
    covered = int(snapshot.labels(config.labels).covered.sum())
    return {
        "store": str(store_path.resolve()),
        "snapshot": snapshot.id,
        "labels": config.labels,
        "episodes": covered,
        "unlabelled_episodes": snapshot.episodes - covered,
        "transitions": len(transitions),
        "contract": snapshot.contract.name,
        "contract_hash": snapshot.contract.hash,
    }
