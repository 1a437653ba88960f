"""The algorithms by name."""

from typing import Any

from episodes.errors import unknown
from policies.algorithm import Algorithm
from policies.bc import BC, BCConfig
from policies.cal_ql import CalQL, CalQLConfig
from policies.famo2o import FamO2O, FamO2OConfig
from policies.fisor import FISOR, FISORConfig
from policies.h2o import H2O, H2OConfig
from policies.h2o_plus import H2OPlus, H2OPlusConfig
from policies.iql import IQL, IQLConfig
from policies.iql_lagrangian import LagrangianIQL, LagrangianIQLConfig
from policies.ppo import OnPolicy
from policies.preparation import Preparation
from policies.rlpd import RLPD, RLPDConfig
from policies.uni_o4 import UniO4, UniO4Config

_ALGORITHMS: dict[str, tuple[type, type]] = {
    "bc": (BC, BCConfig),
    "iql": (IQL, IQLConfig),
    "cal_ql": (CalQL, CalQLConfig),
    "rlpd": (RLPD, RLPDConfig),
    "famo2o": (FamO2O, FamO2OConfig),
    "fisor": (FISOR, FISORConfig),
    "iql_lagrangian": (LagrangianIQL, LagrangianIQLConfig),
    "h2o": (H2O, H2OConfig),
    "h2o_plus": (H2OPlus, H2OPlusConfig),
    "uni_o4": (UniO4, UniO4Config),
}


def algorithm_names() -> list[str]:
    return sorted(_ALGORITHMS)


def config_class(name: str) -> type:
    """The configuration's dataclass of an algorithm."""
    return _entry(name)[1]


def learns_online(name: str) -> bool:
    """Whether more data with rewards can improve this algorithm's policy."""
    return _entry(name)[0].learns_online


def updates_per_step(name: str) -> int:
    """How many updates this algorithm makes for every step online, as published."""
    return _entry(name)[0].updates_per_step


def online_settings(name: str) -> frozenset[str]:
    """Which of this algorithm's settings can be given anew when it goes online."""
    return _entry(name)[0].online_settings


def settings_online(name: str, updates_per_step: int | None, *, started: bool) -> dict[str, Any]:
    """What an algorithm is told when it goes online, unless somebody says otherwise.

    Args:
        updates_per_step: as somebody has given it.
        started: it is another one than the pretrained run's, and starts from its policy.
    """
    algorithm = _entry(name)[0]
    settings = dict(algorithm.start_settings) if started else {}
    if updates_per_step is not None and algorithm.one_actor_update_per_step:
        settings["updates_per_actor_update"] = updates_per_step
    return settings


def learns_on_policy(name: str) -> bool:
    """Whether it learns online from its own newest episodes, and from nothing else."""
    return issubclass(_entry(name)[0], OnPolicy)


def needs_rewards(name: str) -> bool:
    """Whether this algorithm learns from rewards at all."""
    return _entry(name)[0].needs_rewards


def needs_costs(name: str) -> bool:
    """Whether this algorithm learns from costs, too."""
    return _entry(name)[0].needs_costs


def make_algorithm(
    name: str, config: Any, preparation: Preparation, *, seed: int, decay_steps: int | None = None
) -> Algorithm:
    """A fresh learner.

    Args:
        config: an instance of `config_class(name)`.
        decay_steps: length of the actor's cosine learning-rate decay; None for none, as online.
    """
    return _entry(name)[0](config, preparation, seed, decay_steps)


def _entry(name: str) -> tuple[type, type]:
    if name not in _ALGORITHMS:
        raise unknown("algorithm", name, _ALGORITHMS)
    return _ALGORITHMS[name]
