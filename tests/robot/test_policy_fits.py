"""Whether a policy can serve a robot."""

from typing import Any

import pytest

from episodes.contract import Contract
from episodes.errors import InputError
from robot.acting import check_policy_fits
from tests.robot.contracts import contract


def trained(**changes: Any) -> Contract:
    return contract(**changes).layout()


WRIST = {"name": "wrist", "topic": "wrist/image", "height": 8, "width": 6, "rate": 10, "max_age": 0.2}


def test_a_policy_fits_the_robot_that_it_was_trained_on() -> None:
    check_policy_fits(trained(), None, contract())
    check_policy_fits(trained(cameras=[WRIST]), "wrist", contract(cameras=[WRIST]))


def test_limits_may_differ() -> None:
    check_policy_fits(trained(commands__0__fields__0__low=-0.5), None, contract())


def test_a_camera_that_the_policy_does_not_see_may_be_missing() -> None:
    check_policy_fits(trained(cameras=[WRIST]), None, contract())


@pytest.mark.parametrize(
    ("changes", "camera", "said"),
    [
        (
            {"observations__1__fields__0__name": "tip_z"},
            None,
            "contract 'arm' does not fit the policy: state entry 4 is ('tip_x', 'm'), expected ('tip_z', 'm')",
        ),
        ({"observations__1__fields__0__unit": ""}, None, "state entry 4 is ('tip_x', 'm'), expected ('tip_x', '')"),
        (
            {"observations__1__fields__1": {"path": "point.y", "name": "tip_y"}},
            None,
            "state 5 entries, expected 6",
        ),
        ({"commands__1__fields__0__name": "pull"}, None, "action entry 2 is ('push', 'm'), expected ('pull', 'm')"),
        ({"name": "leg"}, None, "contract 'arm': the policy was trained on 'leg', another robot's layout"),
        ({"rate": 20}, None, "contract 'arm': 10 Hz, and the policy was trained at 20 Hz"),
        ({"cameras": [WRIST]}, "wrist", "the policy sees camera 'wrist' at 8x6; it has: none"),
    ],
)
def test_a_policy_of_another_robot_is_refused(changes: dict[str, Any], camera: str | None, said: str) -> None:
    with pytest.raises(InputError) as refused:
        check_policy_fits(trained(**changes), camera, contract())
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_camera_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="at 8x6; it has: wrist 4x6"):
        check_policy_fits(trained(cameras=[WRIST]), "wrist", contract(cameras=[{**WRIST, "height": 4}]))


def test_a_policy_that_does_not_say_what_it_was_trained_on_is_refused() -> None:
    with pytest.raises(InputError, match="does not say what it was trained on"):
        check_policy_fits(None, None, contract())


def test_a_policy_of_no_rate_fits_any() -> None:
    layout = trained()
    check_policy_fits(Contract(layout.name, layout.state, layout.action, layout.cameras), None, contract())
