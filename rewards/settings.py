"""A labelling's configuration from what a command line gives: flags, a YAML file, single settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from episodes.errors import InputError, unknown
from episodes.typed import parse, parse_settings, read_yaml
from rewards.judges.access import parts_of
from rewards.label import LabelConfig
from rewards.shaping import Shape

SECTIONS: dict[str, tuple[str, ...]] = {
    "reward": ("labeller", "reward"),
    "success": ("labeller", "success"),
    "labeller": ("labeller",),
    "asking": ("asking",),
    "clip": ("judges", "clip"),
    "chat": ("judges", "chat"),
}
"""What stands before the dot of a setting, and where in the configuration that is."""

PLACES: dict[str, tuple[str, ...]] = {
    "task": ("labeller", "task"),
    "camera": ("labeller", "cameras"),
    "encoder": ("labeller", "encoder"),
    "shape": ("labeller", "shape"),
    "url": ("judges", "chat", "url"),
    "budget": ("judges", "chat", "budget"),
    "baseline": ("judges", "clip", "baseline"),
    "pairs": ("asking", "pairs"),
    "method": ("method",),
    "seed": ("seed",),
}
"""Flags, and where in the configuration they go."""

OWNERS = {"model": ("clip", "chat"), "url": ("chat",), "budget": ("chat",), "baseline": ("clip",)}
"""Flags that only some judges take."""

DEFAULT_ENCODER = "efficientnet_lite0"
"""What looks at frames where the judge brings no vision-language model."""


SHAPE_WITH_SUCCESS = Shape.POTENTIAL
"""Keeps the best policy that of the sparse reward."""


def label_config(
    flags: Mapping[str, Any], file: Path | None, settings: Sequence[str], *, marked: bool = False
) -> LabelConfig:
    """A complete configuration: a file's values, over them the flags that are not None, over them the settings.

    Args:
        flags: `task`, `judge`, `method`, `camera`, `model`, `url`, `baseline`, `shape`, `pairs`, `budget`, `encoder`,
            `seed`.
        settings: `section.key=value`, sections as in `SECTIONS`, or `key=value` for what is in none.
        marked: whether there are marks, and so a success classifier; that decides what rewards are made of.

    Raises:
        InputError: naming the first key or value that does not fit.
    """
    nested: dict[str, Any] = read_yaml(file) if file else {}
    given = {key: value for key, value in flags.items() if value is not None}
    judge = given.pop("judge", None) or nested.get("judge") or "clip"
    nested["judge"] = judge
    for key, owners in OWNERS.items():
        if key in given and judge not in owners:
            words = " or ".join(repr(owner) for owner in owners)
            raise InputError(f"--{key} belongs to judge {words}, and the judge is {judge!r}")
    if model := given.pop("model", None):
        if judge == "clip" and "encoder" in given:
            raise InputError("judge 'clip' looks through its own model: leave --encoder out")
        if judge == "chat":
            _put(nested, ("judges", "chat", "model"), model)
        else:
            given["encoder"] = f"open_clip:{model}"
    for key, value in given.items():
        _put(nested, PLACES[key], value)
    for word, value in parse_settings(list(settings)).items():
        _put(nested, _place(word), value)
    method, seed = nested.get("method"), nested.get("seed")
    without_score = Shape.SPARSE if method == "success" else SHAPE_WITH_SUCCESS
    _default(nested, ("labeller", "encoder"), DEFAULT_ENCODER)
    _default(nested, ("labeller", "shape"), (without_score if marked else Shape.AS_IS).value)
    if judge == "progress":
        _default(nested, ("asking", "sampling"), "same_episode")
    if seed is not None:
        _default(nested, ("labeller", "reward", "seed"), seed)
        _default(nested, ("labeller", "success", "seed"), seed)
    _check_endpoint(_level(nested, ("judges", "chat")).get("chat"))
    config = parse(LabelConfig, nested, "label")
    _check_judge(config)
    return config


def _check_endpoint(chat: Any) -> None:
    """Refuse a URL with a secret in it before it is repeated in a message, or written into a label set."""
    if not isinstance(chat, dict):
        return
    if isinstance(url := chat.get("url"), str):
        parts_of(url)
    for key in ("url", "model"):
        if not chat.get(key):
            raise InputError(f"judge 'chat' needs --{key}, beside what else is set of it")


def _check_judge(config: LabelConfig) -> None:
    encoder = config.labeller.encoder or ""
    if config.judge == "clip" and config.method != "success" and not encoder.startswith("open_clip:"):
        raise InputError(
            "judge 'clip' needs a vision-language model: --model MODEL:CHECKPOINT (for example "
            "ViT-B-32:/path/to/weights.safetensors), or the folder of an adapted model"
        )


def _place(word: str) -> tuple[str, ...]:
    """Where a setting's value goes."""
    section, dot, name = word.partition(".")
    if not dot:
        return (word,)
    if section not in SECTIONS:
        raise unknown("section of settings", section, SECTIONS)
    return (*SECTIONS[section], name)


def _default(nested: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    """Set a value deep inside unless there is one."""
    level = _level(nested, place)
    level.setdefault(place[-1], value)


def _put(nested: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    """Set a value deep inside."""
    _level(nested, place)[place[-1]] = value


def _level(nested: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    """The mapping that a place is in; the levels on the way are made."""
    for number, key in enumerate(place[:-1]):
        level = nested.setdefault(key, {})
        if not isinstance(level, dict):
            raise InputError(f"configuration: {'.'.join(place[: number + 1])}: expected keys and values, got {level!r}")
        nested = level
    return nested
