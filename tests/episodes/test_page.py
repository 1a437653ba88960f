"""Pages: the frame, and pictures inside them."""

import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from episodes.page import data_uri, picture, render
from tests.pages import Page


def decoded(uri: str) -> np.ndarray:
    head, content = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "some.html.j2"
    path.write_text(
        '{% extends "page.html.j2" %}{% block title %}{{ name }}{% endblock %}'
        "{% block content %}<p>{{ name }}, {{ written }}</p>{% endblock %}"
    )
    return path


def test_a_page_stands_in_the_common_frame_and_escapes_what_it_is_given(template):
    html = render(template, name="<script>x</script>")
    page = Page(html)
    page.check_it_stands_alone()
    assert html.startswith("<!doctype html>") and "<style>" in html
    assert page.shown["p"][0].startswith("<script>x</script>, 20")


def test_a_value_that_a_template_wants_and_nobody_gave_is_an_error(template):
    with pytest.raises(UndefinedError):
        render(template)


def test_an_address_holds_the_content():
    assert data_uri("video/mp4", b"\x00\xff") == "data:video/mp4;base64,AP8="


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 200))
def test_a_picture_is_never_larger_than_its_side_and_never_enlarged(height, width, side):
    got = decoded(picture(np.zeros((height, width, 3), np.uint8), side)).shape[:2]
    if max(height, width) <= side:
        assert got == (height, width)
    else:
        assert max(got) == side


def test_a_picture_keeps_its_colours():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :, 0] = 250
    got = decoded(picture(image, 30))
    assert got.shape == (20, 30, 3)
    assert np.abs(got.astype(int).mean((0, 1)) - [250, 0, 0]).max() < 6
