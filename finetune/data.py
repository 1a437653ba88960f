"""What a run learns from: a snapshot of a store under a label set, as transitions."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from episodes.contract import Contract
from episodes.encoders import Encoder, features_of, load_encoder
from episodes.errors import InputError, unknown
from episodes.labels import LOGGED, LabelSet
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.transitions import Transitions
from finetune.config import TrainConfig
from finetune.run import Run
from policies.registry import needs_costs, needs_rewards

HELD_OUT = 1
"""Names the stream of random numbers that draws the episodes to hold out."""


@dataclass(frozen=True, slots=True)
class OfflineData:
    """The transitions, and what a run writes down about where they came from."""

    transitions: Transitions
    contract: Contract
    encoder: Encoder | None
    labeller: Path | None
    """What made the label set, where that can label new episodes, too; see `rewards.labeller`."""
    origin: dict[str, Any]
    sparse: bool
    """See `is_sparse`."""
    provenance: dict[str, Any]
    """Of the label set."""
    quickest: int | None
    """Steps to the earliest success that the labels know; None where they know of none."""
    warnings: tuple[str, ...] = ()
    """What can be learned from all the same, and will disappoint."""


def load_offline(store_path: Path, config: TrainConfig, snapshot_id: str | None = None) -> OfflineData:
    """Load what the configuration asks for, from the newest snapshot or the one a run was begun with."""
    store = Store.open(store_path)
    snapshot = store.snapshot(snapshot_id)
    if not snapshot.episodes:
        raise InputError(f"{store_path}: holds no episodes yet")
    labels, held_out = learned_from(snapshot, config)
    _check_meaning(snapshot, labels, config)
    if needs_costs(config.algorithm):
        _check_costs(snapshot, labels, config.algorithm)
    if config.camera is not None and config.camera not in snapshot.contract.camera_names:
        raise unknown("camera", config.camera, snapshot.contract.camera_names, str(store_path))
    encoder = None if config.camera is None else load_encoder(config.encoder)
    features = None
    if encoder is not None and config.camera is not None:
        features = features_of(store, snapshot, config.camera, encoder)
    transitions = Transitions.load(snapshot, labels, config.sampling, features)
    store.tag(f"run-{snapshot.id}", snapshot.id)
    origin = _origin(store_path, snapshot, labels, transitions, held_out)
    warnings = _warnings(snapshot, labels) if needs_costs(config.algorithm) else ()
    return OfflineData(
        transitions,
        snapshot.contract,
        encoder,
        _made_by(store_path, labels),
        origin,
        sparse=is_sparse(labels),
        provenance=labels.provenance,
        quickest=_quickest_success(snapshot, labels),
        warnings=warnings,
    )


def is_sparse(labels: LabelSet) -> bool:
    """Whether its rewards are 0 and 1 alone: then a success is a reward."""
    reward = labels.values["reward"]
    return bool(np.isin(reward[~np.isnan(reward)], (0, 1)).all())


def labeller_of(run: Run) -> Path | None:
    """The folder of what made a run's labels; None where they were not made by looking."""
    data = run.config["data"]
    store = Path(data["store"])
    return _made_by(store, Store.open(store).snapshot(data["snapshot"]).labels(data["labels"]))


def _made_by(store: Path, labels: LabelSet) -> Path | None:
    made_by = labels.provenance.get("labeller")
    return None if made_by is None else store / made_by


def _labels(snapshot: Snapshot, config: TrainConfig) -> LabelSet:
    """The label set that the configuration names; what needs no rewards learns from logs without any, too."""
    labels = snapshot.labels(config.labels)
    if not needs_rewards(config.algorithm) and labels.name == LOGGED and not labels.covered.all():
        nothing = np.zeros(snapshot.steps, np.float32)
        return LabelSet(LOGGED, {"reward": nothing}, np.ones(snapshot.episodes, bool))
    if "reward" not in labels.values:
        raise InputError(f"{snapshot.path}: label set {labels.name!r} has no rewards, only {sorted(labels.values)}")
    if not labels.covered.any():
        raise InputError(
            f"{snapshot.path}: label set {labels.name!r} covers no episode; make one with `firsthand label`, or name "
            f"another: {', '.join(snapshot.label_names) or 'there is none yet'}"
        )
    return labels


def learned_from(snapshot: Snapshot, config: TrainConfig) -> tuple[LabelSet, list[int]]:
    """The labels of the episodes that a run learns from, and the episodes that it holds out."""
    labels = _labels(snapshot, config)
    if not config.held_out:
        return labels, []
    covered = np.flatnonzero(labels.covered)
    count = max(1, round(config.held_out * len(covered)))
    if count >= len(covered):
        raise InputError(
            f"{snapshot.path}: of {len(covered)} episodes held_out={config.held_out:g} leaves none to learn from; "
            "give a smaller share"
        )
    # A stream of its own: what is drawn for learning stays the same.
    drawn = np.random.default_rng([config.seed, HELD_OUT]).permutation(covered)[:count]
    kept = labels.covered.copy()
    kept[drawn] = False
    return replace(labels, covered=kept), sorted(drawn.tolist())


def _check_costs(snapshot: Snapshot, labels: LabelSet, algorithm: str) -> None:
    """Raise an InputError unless every step that can be learned from has a cost."""
    where = f"{snapshot.path}: label set {labels.name!r}"
    if "cost" not in labels.values:
        raise InputError(
            f"{where} has no costs, which {algorithm} learns from; make one with `firsthand label --method constraints`"
        )
    if np.isnan(labels.values["cost"][_usable(snapshot, labels)]).any():
        raise InputError(f"{where} covers episodes, and not all their steps have a cost")


def _usable(snapshot: Snapshot, labels: LabelSet) -> np.ndarray:
    """Shape (N,), bool: the steps that can be learned from."""
    usable = np.repeat(labels.covered, snapshot.step_ends - snapshot.step_starts)
    usable[snapshot.step_ends[~(snapshot.has_final_observation | snapshot.terminated)] - 1] = False
    return usable


def _warnings(snapshot: Snapshot, labels: LabelSet) -> tuple[str, ...]:
    """Of a learner that needs both rewards and costs."""
    usable, found = _usable(snapshot, labels), []
    if not (labels.values["cost"][usable] > 0).any():
        found.append(
            f"label set {labels.name!r}: no step violates anything, so that every action will be judged feasible; "
            "what is learned here is no filter"
        )
    reward = labels.values["reward"][usable]
    if reward.min() == reward.max():
        found.append(
            f"label set {labels.name!r}: every reward is {float(reward[0]):g}, so that nothing is better than anything "
            "else that is feasible"
        )
    return tuple(found)


def _check_meaning(snapshot: Snapshot, labels: LabelSet, config: TrainConfig) -> None:
    """Refuse what would be learned from in silence, and mean something else than it says."""
    sampling, where = config.sampling, f"{snapshot.path}: label set {labels.name!r}"
    made_for = labels.provenance.get("discount")
    if made_for is not None and made_for != sampling.discount and needs_rewards(config.algorithm):
        raise InputError(
            f"{where} has potentials for a discount of {made_for:g}, and this run's is {sampling.discount:g}; "
            f"give --set discount={made_for:g}, or label with --set labeller.discount={sampling.discount:g}"
        )
    if labels.provenance.get("labeller") and sampling.reward_bias and needs_rewards(config.algorithm):
        raise InputError(
            f"{where} has rewards as a learner takes them, and this run would add {sampling.reward_bias:g} to each; "
            "give --preset labelled, or --set reward_bias=0"
        )


def _quickest_success(snapshot: Snapshot, labels: LabelSet) -> int | None:
    """Steps from an episode's beginning to its first success, of the episode that was the first."""
    if "success" not in labels.values:
        return None
    success = np.nan_to_num(labels.values["success"]) > 0
    bounds = zip(snapshot.step_starts.tolist(), snapshot.step_ends.tolist(), strict=True)
    return min((int(np.argmax(success[a:b])) + 1 for a, b in bounds if success[a:b].any()), default=None)


def _origin(
    store_path: Path, snapshot: Snapshot, labels: LabelSet, transitions: Transitions, held_out: list[int]
) -> dict[str, Any]:
    covered = int(labels.covered.sum())
    origin: dict[str, Any] = {
        "store": str(store_path.resolve()),
        "snapshot": snapshot.id,
        "labels": labels.name,
        "episodes": covered,
        "unlabelled_episodes": snapshot.episodes - covered - len(held_out),
        "transitions": len(transitions),
        "contract": snapshot.contract.name,
        "contract_hash": snapshot.contract.hash,
    }
    return origin | ({"held_out": held_out} if held_out else {})
