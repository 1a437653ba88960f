"""A robot's contract from its YAML file."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from episodes.errors import InputError
from episodes.typed import parse, read_yaml
from robot.contract import RobotContract
from robot.contract_rules import check

VERSION = 1


def robot_contract_from(mapping: dict[str, Any], where: str) -> RobotContract:
    """A checked contract from a mapping (YAML or JSON)."""
    if "version" in mapping and mapping["version"] != VERSION:
        raise InputError(f"{where}: version {mapping['version']!r}, this release reads version {VERSION}")
    contract = parse(RobotContract, mapping, where)
    try:
        check(contract)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return contract


def read_robot_contract(path: Path) -> RobotContract:
    """A checked contract from a YAML file."""
    return robot_contract_from(read_yaml(path), str(path))


def is_robot_contract(path: Path) -> bool:
    """Whether a YAML file is a robot's contract, and not only the contract of a store."""
    return "observations" in read_yaml(path)


def json_schema() -> str:
    """For editors, which then complete keys and show what they mean."""
    schema = TypeAdapter(RobotContract).json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)
