"""What the rewarder keeps of its cameras."""

from dataclasses import replace

import numpy as np
import pytest

from tests.robot.bagmaking import CAMERA, arm, image
from tests.robot.contracts import SECOND

pytest_plugins = ("tests.robot.process_fixtures",)


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.usefixtures("domain")
def test_where_one_camera_is_dead_the_pictures_of_another_are_not_kept_for_ever(reliable: bool) -> None:
    """In lock-step nothing goes on without it, and nothing is let go of."""
    from robot.nodes.rewarder import MOST_WAITING, _frames

    robot = arm(cameras=[CAMERA, {**CAMERA, "name": "rear", "topic": "rear/image"}])
    frames = _frames(replace(robot, observations=()), reliable=reliable)
    picture = np.zeros((8, 12, 3), np.uint8)
    for k in range(200):
        frames.add("front/image", image(1 + k / 10, picture).message, 1)
    assert frames.common_stamp() == 0
    kept = frames.known(0)
    span = kept[-1] - kept[0]
    assert (len(kept) == 200) == reliable
    assert span >= MOST_WAITING * SECOND // 10
