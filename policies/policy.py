"""A policy at work: observations in, one action at a time out."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from episodes.contract import Contract
from episodes.encoders import Encoder, load_encoder
from episodes.episode import Source
from policies.algorithm import Algorithm
from policies.checkpoint import actor_hash, load_checkpoint
from policies.ppo import OnPolicy


class Policy:
    """Runs a learner's actor on one robot or task; a chunk of actions is carried out before the next is chosen.

    Where the actor sees a history, every observation becomes part of it, those during a chunk and, by `observe`, those
    that somebody else acts on.
    """

    source = Source.POLICY

    def __init__(
        self,
        algorithm: Algorithm,
        *,
        camera: str | None = None,
        image_size: tuple[int, int] = (84, 84),
        encoder: Encoder | None = None,
        deterministic: bool = True,
        contract: Contract | None = None,
    ):
        self.algorithm = algorithm
        self.contract = contract
        """What it was trained on; None for a policy that was never saved."""
        self.camera = camera
        self.image_size = image_size
        """Height and width that the camera's frames had in the data [px]."""
        self.encoder = encoder
        self.deterministic = deterministic
        self.policy_hash = 0
        """Of the actor that acts in this episode, for the record: see `actor_hash`."""
        self.proposed: np.ndarray | None = None
        """Shape (A,): the last action as it was drawn, before its limits cut anything off. Known of those who learn
        from their own draws, where they draw."""
        self.log_probability: float | None = None
        """Of that one, in network units."""
        self._generator = torch.Generator()
        self._planned: deque[np.ndarray] = deque()
        self._history = algorithm.preparation.history
        self._window: deque[np.ndarray] = deque()
        """The states that the actor sees, oldest first; none before an episode's first observation."""

    @classmethod
    def load(cls, checkpoint: Path, *, deterministic: bool = True) -> "Policy":
        """The policy in a checkpoint folder."""
        saved = load_checkpoint(checkpoint)
        encoder = None if saved.encoder is None else load_encoder(saved.encoder)
        return cls(
            saved.algorithm,
            camera=saved.camera,
            image_size=saved.image_size,
            encoder=encoder,
            deterministic=deterministic,
            contract=saved.contract,
        )

    def reset(self, seed: int) -> None:
        """Begin an episode: forget what was planned and seen; a stochastic policy's draws follow from the seed."""
        self._window.clear()
        self.replan(seed)

    def replan(self, seed: int) -> None:
        """Forget what was planned, in the middle of an episode; draws go on from the seed."""
        # Taken anew every time: online, the actor is another one in every episode.
        self.policy_hash = actor_hash(self.algorithm)
        self._planned.clear()
        self.proposed = self.log_probability = None
        self._generator.manual_seed(seed)

    def observe(self, observation: dict[str, np.ndarray]) -> None:
        """See what somebody else acts on. At an episode's beginning it stands for what was before, too."""
        self._window = self._with(observation["state"])

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """The next action, shape (A,), in the contract's units and limits."""
        self.observe(observation)
        if not self._planned:
            self._planned.extend(self._choose(observation))
        return self._planned.popleft()

    def samples(self, observation: dict[str, np.ndarray], count: int, generator: torch.Generator) -> np.ndarray:
        """Actions that could be next, shape (count, A); of a chunk the first. What is planned and seen stays as it is.

        An observation like the newest one that was seen is that one, and any other the one after it.
        """
        known = len(self._window) > 0 and np.array_equal(observation["state"], self._window[-1])
        window = self._window if known else self._with(observation["state"])
        state, features = self._seen(observation, window)
        rows = state.expand(count, *state.shape[1:]), None if features is None else features.expand(count, -1)
        return self.algorithm.act(*rows, generator=generator)[:, 0].cpu().numpy()

    def _choose(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        if isinstance(self.algorithm, OnPolicy) and not self.deterministic:
            state, features = self._seen(observation, self._window)
            drawn, log_prob = self.algorithm.draw(state, features, self._generator)
            preparation = self.algorithm.preparation
            self.proposed = preparation.decode_unclipped(state, drawn)[0, 0].cpu().numpy()
            self.log_probability = float(log_prob[0])
            return preparation.decode(state, drawn)[0].cpu().numpy()
        generator = None if self.deterministic else self._generator
        return self.algorithm.act(*self._seen(observation, self._window), generator=generator)[0].cpu().numpy()

    def _with(self, state: np.ndarray) -> deque[np.ndarray]:
        """The window after one more state; the first one stands for those before it, as in `episodes.history`."""
        # A copy: whoever measures may write the next one into the same array.
        state = state.copy()
        return deque([*(self._window or [state] * self._history), state], maxlen=self._history)

    def _seen(
        self, observation: dict[str, np.ndarray], window: Sequence[np.ndarray]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """States and image features as the algorithm takes them, one row each."""
        device = self.algorithm.preparation.mean.device
        state = torch.from_numpy(np.stack(window) if self._history > 1 else window[-1]).unsqueeze(0).to(device)
        if self.encoder is None:
            return state, None
        return state, torch.from_numpy(self.encoder.encode(observation[f"image/{self.camera}"][None])).to(device)
