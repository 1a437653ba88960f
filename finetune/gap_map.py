"""Where not to trust the simulator: the learned dynamics gap over the states that its rollouts went through."""

import numpy as np
import torch

from episodes.charts import map_chart
from episodes.encoders import features_of, load_encoder
from episodes.labels import LOGGED
from episodes.quality.nearness import principal
from episodes.store import Store
from episodes.transitions import Batch, Transitions
from episodes.typed import parse
from finetune.config import TrainConfig
from finetune.h2o import DynamicsGap
from finetune.mixing import GAP
from finetune.run import Run
from policies.algorithm import below
from policies.checkpoint import load_checkpoint

POINTS = 2**12
"""Transitions that are looked at, evenly spread over the rollouts."""


def has_gap(run: Run) -> bool:
    """Whether this run learned where its simulator is off, and has got somewhere."""
    config = run.config
    return config["kind"] == "finetune" and config["online"].get("mix") == "h2o" and run.has_checkpoint()


def rollouts_of(run: Run) -> tuple[DynamicsGap, Batch]:
    """The gap as a run has learned it, and transitions of its rollouts."""
    saved = load_checkpoint(run.last)
    config = parse(TrainConfig, run.config["train"], str(run.path))
    store = Store.open(run.path / "episodes")
    snapshot = store.snapshot()
    features = None
    if saved.camera is not None and saved.encoder is not None:
        features = features_of(store, snapshot, saved.camera, load_encoder(saved.encoder))
    transitions = Transitions.load(snapshot, snapshot.labels(LOGGED), config.sampling, features)
    rows = np.unique(np.linspace(0, len(transitions) - 1, POINTS).round().astype(np.int64))
    return DynamicsGap.from_state(below(saved.beside, GAP)), transitions.batch(torch.from_numpy(rows))


def gap_chart(run: Run) -> str:
    """The states of rollouts in the plane in which they differ most, by how much less likely their next states are
    in reality than in the simulator."""
    gap, batch = rollouts_of(run)
    observation = gap.preparation(batch).observation.numpy().astype(np.float64)
    points, (first, second) = principal(observation - observation.mean(0))
    off = (-gap.log_ratio(batch)).clamp(min=0).numpy()
    labels = f"first principal component ({first:.0%})", f"second ({second:.0%})"
    top = max(float(np.quantile(off, 0.99)), 1e-3)
    return map_chart("Where not to trust the simulator", labels, points, off, "learned gap [nats]", (0.0, top))
