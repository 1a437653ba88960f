"""What every algorithm is: pure losses, one update, acting, and a state to go on from bit for bit."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from episodes.transitions import Batch, Transitions
from policies.networks import PolicyNetwork
from policies.preparation import Preparation

Info = dict[str, Tensor]
"""Scalars to be logged, still on the device."""

Loss = tuple[Tensor, Info]


P = TypeVar("P", bound=PolicyNetwork)


class Algorithm(ABC, Generic[P]):
    """Parameters, optimisers and generator of one learner.

    A subclass registers its modules in `modules` and its optimisers in `optimisers`; the state is made from these.
    """

    name: ClassVar[str]
    needs_rewards: ClassVar[bool] = True
    needs_costs: ClassVar[bool] = False
    """Whether it learns from costs, too."""
    learns_online: ClassVar[bool]
    """Whether more data with rewards can improve it."""
    updates_per_step: ClassVar[int] = 1
    """Online, as published."""
    one_actor_update_per_step: ClassVar[bool] = False
    """Whether its policy moves once per step online, however many updates there are."""
    online_settings: ClassVar[frozenset[str]] = frozenset()
    """Of its settings those that only count online, and can be given anew when that begins."""
    start_settings: ClassVar[Mapping[str, Any]] = {}
    """What it is told, unless somebody says otherwise, where it starts from another learner's policy."""

    def __init__(self, config: Any, preparation: Preparation, seed: int, decay_steps: int | None):
        self.config = config
        self.preparation = preparation
        self.decay_steps = decay_steps
        """Length of the actor's cosine learning-rate decay; None for none, as online."""
        self.modules: dict[str, nn.Module] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.step = 0
        self.generator = torch.Generator().manual_seed(seed)
        """Initial weights and dropout; on the CPU, so that a seed means the same on every device."""
        self.actor: P

    def survey(self, transitions: Transitions, steps: int) -> None:
        """See all of the offline data once, before the first of so many updates; most need not.

        Raises:
            InputError: where nothing can be learned from it in this way.
        """

    @abstractmethod
    def update(self, batch: Batch) -> Info:
        """One gradient step on everything that this algorithm learns."""

    def go_online(self) -> None:
        """Go on with data that comes in as somebody acts; the offline schedule has come down to zero by now."""
        self.decay_steps = None

    def act(self, state: Tensor, features: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Actions in the contract's units and limits: (B, S), or (B, K, S) with a history, and (B, F) to (B, C, A).

        The mean action, or a sample where a generator is given.
        """
        with torch.no_grad():
            observation = self.preparation.observation(state, features)
            mean = self.actor.mean(observation) if generator is None else self.actor.sample(observation, generator)
            return self.preparation.decode(state, mean)

    def to(self, device: torch.device) -> "Algorithm":
        """Move parameters, optimiser state and preparation to a device, in place."""
        self.preparation = self.preparation.to(device)
        for module in self.modules.values():
            module.to(device)
        for optimiser in self.optimisers.values():
            for state in optimiser.state.values():
                for key, value in state.items():
                    state[key] = value.to(device)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Everything, as tensors on the CPU: networks, targets, optimisers, generator, step and preparation."""
        state = {"step": torch.tensor(self.step), "generator": self.generator.get_state()}
        for name, tensor in self.preparation.tensors().items():
            state[f"preparation/{name}"] = tensor
        return cpu(state | learned(self.modules, self.optimisers))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`. The preparation is given at construction and not taken from here."""
        self.step = int(state["step"])
        self.generator.set_state(state["generator"])
        restore_learned(self.modules, self.optimisers, state)


def learned(modules: dict[str, nn.Module], optimisers: dict[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What networks and their optimisers have come to, as tensors."""
    state = {}
    for name, module in modules.items():
        for key, tensor in module.state_dict().items():
            state[f"module/{name}/{key}"] = tensor
    for name, optimiser in optimisers.items():
        for index, values in optimiser.state_dict()["state"].items():
            for key, tensor in values.items():
                state[f"optimiser/{name}/{index}/{key}"] = tensor
    return state


def restore_learned(
    modules: dict[str, nn.Module], optimisers: dict[str, torch.optim.Optimizer], state: dict[str, Tensor]
) -> None:
    """Give networks and optimisers what `learned` made of them."""
    for name, module in modules.items():
        module.load_state_dict(below(state, f"module/{name}/"))
    for name, optimiser in optimisers.items():
        per_parameter: dict[int, dict[str, Tensor]] = {}
        for path, tensor in below(state, f"optimiser/{name}/").items():
            index, key = path.split("/")
            per_parameter.setdefault(int(index), {})[key] = tensor
        optimiser.load_state_dict({**optimiser.state_dict(), "state": per_parameter})


def cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a checkpoint holds it."""
    return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}


def preparation_in(state: dict[str, Tensor]) -> Preparation:
    """The preparation that a state was saved with."""
    return Preparation.of_tensors(below(state, "preparation/"))


def adam(parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Adam:
    """Adam in its fused form: one pass over all parameters, on CPU and GPU."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def cosine(learning_rate: float, step: int, decay_steps: int | None) -> float:
    """The learning rate at a step: half a cosine down to 0 at `decay_steps`, constant where that is None."""
    if decay_steps is None:
        return learning_rate
    progress = min(step / decay_steps, 1.0)
    return learning_rate * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * progress, dtype=torch.float64))))


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down the loss."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part whose names begin so, without that beginning."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
