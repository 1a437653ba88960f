"""The configuration of a run: defaults, presets, a file, single settings; in this order, each over the ones before."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from episodes.errors import InputError, unknown
from episodes.transitions import SamplingConfig
from episodes.typed import STRICT, parse
from policies.registry import algorithm_names, config_class

Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides what is learned from a store."""

    __pydantic_config__ = STRICT

    algorithm: str = "iql"
    learner: dict[str, Any] = field(default_factory=dict)
    """The algorithm's own settings; completed with its defaults."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    labels: str = "logged"
    """The label set that rewards come from."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the episodes that nothing is learned from, drawn by the seed: `evaluate --held-out` measures on them."""
    steps: Positive = 20_000
    """Updates."""
    batch_size: Positive = 256
    seed: Annotated[int, Field(ge=0)] = 0
    normalise: bool = True
    """Standardise observations: robot states have mixed units. The published settings do without."""
    relative_actions: bool = False
    """Express absolute targets relative to the state entry that the contract names for them."""
    state_entries: tuple[str, ...] | None = None
    """What the policy sees of the state; everything where null."""
    camera: str | None = None
    """Whose frozen features the policy sees beside the state; none where null."""
    encoder: str = "efficientnet_lite0"
    """Makes those features."""
    cosine_decay: bool = True
    """Of the actor's learning rate over `steps`, where it clones or is IQL's; soft actor-critics keep theirs."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    log_every: Positive = 250
    checkpoint_every: Positive = 5_000

    def algorithm_config(self) -> Any:
        """The algorithm's typed settings."""
        return parse(config_class(self.algorithm), self.learner, f"settings of {self.algorithm}")


_SPARSE = {
    "expectile": 0.9,
    "inverse_temperature": 10.0,
    "coefficient_range": [8.0, 14.0],
    "dropout": 0.1,
    "reward_bias": -1.0,
    "discount": 0.95,
}

PRESETS: dict[str, dict[str, Any]] = {
    "sparse": _SPARSE,
    "labelled": _SPARSE | {"reward_bias": 0.0},
    "demonstrations": {"chunk": 8, "hidden": [512, 512], "dropout": 0.1},
    "locomotion": {"expectile": 0.7, "inverse_temperature": 3.0, "normalise": False, "steps": 1_000_000},
    "antmaze": {
        "expectile": 0.9,
        "inverse_temperature": 10.0,
        "coefficient_range": [8.0, 14.0],
        "reward_bias": -1.0,
        "normalise": False,
        "steps": 1_000_000,
    },
    "adroit": {
        "expectile": 0.7,
        "inverse_temperature": 0.5,
        "dropout": 0.1,
        "normalise": False,
        "steps": 1_000_000,
    },
}
"""`sparse`: success in {0, 1}, as the tasks here reward it, in episodes of some tens of steps. A failure that runs into
the time limit is worth -1 / (1 - discount) in the end, and at 0.99 learning that takes longer than there is; for longer
episodes give a larger discount and more updates. `labelled`: the same for labels that were made by looking,
which count -1 for a step themselves. `demonstrations`: few episodes by humans, no two alike
(measured on Push-T). The others are the published IQL settings; `locomotion` also wants `reward_scale` at 1000 / (best
return - worst return) of the store."""


def resolve(
    algorithm: str | None = None,
    preset: str | None = None,
    file: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] = {},
) -> TrainConfig:
    """A complete configuration.

    Args:
        algorithm: by name; the file's where None.
        file: nested, as in a run's `config.yaml` under `train`.
        settings: flat; a name may be a key of the run, of its sampling or of the algorithm.

    Raises:
        InputError: naming an unknown preset or key (with the nearest valid one) or a value that does not fit.
    """
    if preset is not None and preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    nested: dict[str, Any] = {"algorithm": TrainConfig().algorithm, **(file or {})}
    for section in ("sampling", "learner"):
        if not isinstance(nested.setdefault(section, {}), Mapping):
            raise InputError(f"configuration: {section}: expected keys and values, got {nested[section]!r}")
    nested["algorithm"] = algorithm or str(nested["algorithm"])
    own = _keys(config_class(nested["algorithm"]))
    from_preset = {k: v for k, v in PRESETS.get(preset or "", {}).items() if k not in _ALL_LEARNER_KEYS or k in own}
    nested = _place(from_preset, nested, own, under=True)
    nested = _place(dict(settings), nested, own, under=False)
    config = parse(TrainConfig, nested, "configuration")
    complete = dataclasses.asdict(config.algorithm_config())
    return dataclasses.replace(config, learner=complete)


def _keys(cls: Any) -> set[str]:
    return {item.name for item in dataclasses.fields(cls)}


_ALL_LEARNER_KEYS = {key for name in algorithm_names() for key in _keys(config_class(name))}


def _place(flat: dict[str, Any], nested: dict[str, Any], own: set[str], under: bool) -> dict[str, Any]:
    """Put flat settings where they belong: the run, its sampling or the algorithm; `under` what is there already."""
    top, sampling = _keys(TrainConfig) - {"learner", "sampling", "algorithm"}, _keys(SamplingConfig)
    result = {**nested, "sampling": dict(nested["sampling"]), "learner": dict(nested["learner"])}
    for key, value in flat.items():
        if key in top:
            place = result
        elif key in sampling:
            place = result["sampling"]
        elif key in own:
            place = result["learner"]
        else:
            raise unknown("key", key, top | sampling | own, "configuration")
        place[key] = place.get(key, value) if under else value
    return result
