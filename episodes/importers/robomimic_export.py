"""What `firsthand export` adds to a robomimic file, so that an import of it brings back what went out."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from episodes.contract import Contract, contract_from
from episodes.episode import EpisodeError
from episodes.importers.exported import NAME
from episodes.importers.robomimic_demo import Layout
from episodes.importers.source import member_names, reading
from episodes.typed import parse

CONTRACT = f"{NAME}/contract"
STATE_KEYS = f"{NAME}/state_keys"
"""The keys of `obs/` in the order in which they make up the state, as JSON."""


@dataclass(frozen=True, slots=True)
class Export:
    """What an export says of its whole file."""

    contract: Contract
    state_keys: tuple[str, ...]

    def layout(self, found: Layout) -> Layout:
        """A demonstration's layout with its keys in the contract's order.

        Raises:
            EpisodeError: where it has other keys or sizes.
        """
        if sorted(self.state_keys) != sorted(found.state):
            raise EpisodeError(f"observations {sorted(found.state)}, {STATE_KEYS} says {sorted(self.state_keys)}")
        for what, size, says in (
            ("observations", sum(found.state.values()), len(self.contract.state)),
            ("actions", found.action, len(self.contract.action)),
        ):
            if size != says:
                raise EpisodeError(f"{what} of {size} entries, {CONTRACT} says {says}")
        return replace(found, state={key: found.state[key] for key in self.state_keys})


@dataclass(frozen=True, slots=True)
class _Keys:
    state_keys: tuple[str, ...]


def read_export(file: h5py.File, path: Path) -> Export | None:
    """What an export says of its file; None where the file is somebody else's.

    Raises:
        InputError: where it is damaged.
    """
    if NAME not in member_names(file):
        return None
    with reading(path):
        contract, keys = (json.loads(bytes(np.asarray(file[name])[()])) for name in (CONTRACT, STATE_KEYS))
        contract = dict(contract)
    says = parse(_Keys, {"state_keys": keys}, f"{path}: {STATE_KEYS}")
    return Export(contract_from(contract, f"{path}: {CONTRACT}"), says.state_keys)
