"""Exporters: a store's episodes in other people's formats."""

from episodes.errors import unknown
from episodes.exporters.lerobot import LeRobot
from episodes.exporters.outgoing import Exporter, Outgoing
from episodes.exporters.robomimic import Robomimic

FORMATS = {"lerobot": LeRobot, "robomimic": Robomimic}

__all__ = ["FORMATS", "Exporter", "Outgoing", "make_exporter"]


def make_exporter(name: str, outgoing: Outgoing, *, video: bool = False) -> Exporter:
    """The exporter of a format.

    Args:
        video: Write pictures as video instead of one by one: smaller, and not to the bit.

    Raises:
        InputError: where there is no such format, or it cannot hold these episodes at all.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return FORMATS[name](outgoing, video=video)
