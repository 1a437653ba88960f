"""The last few observations of an episode, for what a single one does not show: speeds, delays, what is hidden."""

import torch
from torch import Tensor


def window_rows(row: Tensor, first: Tensor, history: int) -> Tensor:
    """Where the last `history` observations up to each of some rows are: (B,) to (B, K), int64, oldest first.

    Before an episode's first row, `first`, nothing was observed: there the first observation is repeated.
    """
    ago = torch.arange(history - 1, -1, -1, device=row.device)
    return torch.maximum(row.unsqueeze(1) - ago, first.unsqueeze(1))


def windows(state: Tensor, row: Tensor, first: Tensor, history: int) -> Tensor:
    """What a policy acts on at some rows of (N, S): shape (B, S), and with a history of K > 1 (B, K, S)."""
    return state[row] if history == 1 else state[window_rows(row, first, history)]
