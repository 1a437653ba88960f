"""A judge from its name and settings."""

from dataclasses import dataclass, field

import numpy as np

from episodes.errors import InputError, unknown
from episodes.typed import STRICT
from rewards.judge import Judge
from rewards.judges.chat import ChatConfig, ChatJudge
from rewards.judges.clip import ClipConfig, ClipJudge
from rewards.judges.progress import ProgressJudge
from rewards.judges.truth import TruthJudge
from rewards.sight import Sight


@dataclass(frozen=True, slots=True)
class Truth:
    """The true reward and success of every observation, shape (N,) each, NaN where there is none; and their name."""

    labels: str
    reward: np.ndarray
    success: np.ndarray


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """Settings of the judges; only those of the one that is asked count."""

    __pydantic_config__ = STRICT

    clip: ClipConfig = field(default_factory=ClipConfig)
    chat: ChatConfig | None = None


def check_judge(name: str, config: JudgeConfig, truth: Truth | None, *, asked: bool) -> None:
    """Refuse what a judge could not work with, before anything is encoded for it.

    Raises:
        InputError: where what it needs was not given.
    """
    if asked and name != "clip":
        make_judge(name, config, None, truth)


def make_judge(name: str, config: JudgeConfig, sight: Sight | None, truth: Truth | None) -> Judge:
    """The judge of that name.

    Raises:
        InputError: where what it needs was not given.
    """
    if name == "clip":
        if sight is None:
            raise InputError(
                "judge 'clip' needs a vision-language model: --model MODEL:CHECKPOINT, or an adapted folder"
            )
        return ClipJudge(sight, config.clip)
    if name == "chat":
        if config.chat is None:
            raise InputError("judge 'chat' needs an endpoint and a model: --url URL --model NAME")
        return ChatJudge(config.chat)
    if name == "env":
        if truth is None:
            raise InputError(
                "judge 'env' compares true rewards: name the label set that has them (--truth NAME); "
                "`firsthand label STORE --judge env --task SIMULATED_TASK` makes one"
            )
        return TruthJudge(truth.reward, truth.success)
    if name == "progress":
        return ProgressJudge()
    raise unknown("judge", name, ("clip", "chat", "progress", "env"))
