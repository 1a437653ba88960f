"""A person's word to the nodes that are up, where there is no `ros2` command: a call of one of their services."""

import re
import time

from std_srvs.srv import SetBool

from episodes.errors import InputError
from robot.spinning import NAME, SpinningNode

FINDING = 5.0
"""Longest time that the service is looked for [s]."""
TRIGGER, SWITCH = "std_srvs/srv/Trigger", "std_srvs/srv/SetBool"


def call_service(service: str, value: bool | None = None, namespace: str = "") -> str:
    """Call a Trigger, or with a value a SetBool; returns what it said, however long that takes.

    Raises:
        InputError: where its name is none, nobody offers it, it wants a value and has none (or the reverse), or the
            answer is no.
    """
    if not re.fullmatch(f"/?{NAME}", service):
        raise InputError(f"service {service!r}: expected a name such as recorder/start")
    with SpinningNode("call", namespace) as beside:
        name = beside.node.resolve_service_name(service)
        offered: dict[str, str] = {}
        deadline = time.monotonic() + FINDING
        while name not in offered and time.monotonic() < deadline:
            time.sleep(0.05)
            found = beside.node.get_service_names_and_types()
            offered = {each: kinds[0] for each, kinds in found if kinds[0] in (TRIGGER, SWITCH)}
        if name not in offered:
            there = ", ".join(each.lstrip("/") for each in sorted(offered))
            what = f"what can be called: {there}" if there else "start the nodes: firsthand up sim|deploy ..."
            raise InputError(f"nobody offers {service}; {what}")
        switch = offered[name] == SWITCH
        if switch and value is None:
            raise InputError(f"{service}: say true or false")
        if not switch and value is not None:
            raise InputError(f"{service}: takes neither true nor false; leave it out")
        return beside.call(service, SetBool.Request(data=value) if switch else None, timeout=None)
