"""What a robot's contract limits, as constraints on the state: what its logs are labelled by."""

from episodes.constraints import Constraint, Constraints, Length, Limit, Workspace
from episodes.errors import InputError
from robot.contract import Command, CommandField, Force, RobotContract, state_entries

NEAR = 0.1
"""Share of a range, or of a limit, that counts as near to it."""


def constraints_of(contract: RobotContract) -> tuple[Constraints, list[str]]:
    """The constraints, and what is limited in the contract but cannot be told from the state, in words.

    The guardian keeps commands inside these limits; the logs of a robot that was pushed, or driven by others, show
    where they were left all the same.

    Raises:
        InputError: for a contract that limits no state entry.
    """
    limits: dict[str, Limit] = {}
    lengths: dict[str, Length] = {}
    workspaces: dict[str, Workspace] = {}
    left: list[str] = []
    if contract.safety.workspace:
        box = dict(contract.safety.workspace)
        workspaces["workspace"] = Workspace(box, near=NEAR * min(high - low for low, high in box.values()))
    for command, item in contract.action_fields:
        found = _limit(command, item)
        if isinstance(found, Limit):
            limits[f"{found.entry} of {item.name}"] = found
        else:
            left += [found] if found else []
        if item.velocity is not None:
            left.append(f"the velocity of {item.name!r}: nothing says which state entry measures it")
    if contract.safety.force is not None:
        entries = _force_entries(contract, contract.safety.force)
        if entries:
            limit = contract.safety.force.limit
            lengths["force"] = Length(entries, limit, near=NEAR * limit)
        else:
            left.append("the force: its values are no state entries, all of them unscaled")
    everything: list[Constraint] = [*limits.values(), *lengths.values(), *workspaces.values()]
    if not everything:
        raise InputError(f"contract {contract.name!r}: limits no state entry; say what must not happen in a file")
    return Constraints(limits=limits, lengths=lengths, workspaces=workspaces).check(f"contract {contract.name!r}"), left


def _limit(command: Command, item: CommandField) -> Limit | str:
    """The range of what a number of the action moves; what is in the way, in words; empty where there is none."""
    if command.kind == "position":
        if item.measured is None:
            return f"the position of {item.name!r}: nothing is measured of it"
        if item.scale != 1.0:
            return f"the position of {item.name!r}: it is sent in another unit than it is measured in"
        low, high = item.low, item.high
    elif item.position is not None and item.measured is not None:
        low, high = item.position
    else:
        return ""
    return Limit(item.measured, low, high, near=NEAR * (high - low))


def _force_entries(contract: RobotContract, force: Force) -> tuple[str, ...]:
    """The state entries that are the force's values, in the order of its paths; none unless all of them are there."""
    names: dict[str, str] = {}
    for observation in contract.observations:
        if observation.topic == force.topic and not observation.joints:
            for item, (name, _, _) in zip(observation.fields, state_entries(observation), strict=True):
                if item.scale == 1.0:
                    names[item.path] = name
    return tuple(names[path] for path in force.paths) if set(force.paths) <= set(names) else ()
