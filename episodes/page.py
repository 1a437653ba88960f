"""HTML files that hold everything they show: the frame that reports share, and what is put inside them."""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: Path, **values: Any) -> str:
    """The page that a template makes, which extends `page.html.j2`; every value is escaped that is not said to be safe.

    The template is given `written` beside the values: the time, in words.
    """
    loader = FileSystemLoader([template.parent, Path(__file__).parent])
    environment = Environment(loader=loader, undefined=StrictUndefined, autoescape=True)
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template.name).render(written=written, **values)


def data_uri(media_type: str, content: bytes) -> str:
    """A file's content as an address, which needs no file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def picture(image: np.ndarray, side: int, quality: int = 82) -> str:
    """A frame, shape (H, W, 3) uint8 RGB, as the address of a JPEG with sides of at most `side` pixels."""
    return data_uri("image/jpeg", jpeg(image, side, quality))


def jpeg(image: np.ndarray, side: int, quality: int = 82) -> bytes:
    """A frame, shape (H, W, 3) uint8 RGB, as a JPEG with sides of at most `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return encoded.tobytes()
