"""Tasks from text."""

import pytest

from episodes.errors import InputError
from sim.task import make_task, task_names


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lft", "unknown task 'lft'; did you mean 'lift'"),
        ("", "unknown task ''"),
        ("lift:rat=10", "unknown key 'rat' in task 'lift:rat=10'; did you mean 'rate'"),
        ("lift:rate=fast", "rate: .* got 'fast'"),
        ("lift:actions=xyz", "actions"),
        ("lift:horizon=0", "horizon"),
        ("lift:rate=33", "expected a whole number"),
        ("lift:rate", "expected key=value"),
        ("pusht:rate=10", "unknown key 'rate'"),
        ("hopper:physics_step=0.01", "unknown key"),
        ("two-quality", "unknown task 'two-quality'; did you mean 'two-qualities'"),
        ("two-qualities:horizon=0", "horizon"),
    ],
)
def test_a_wrong_specification_is_refused_by_name(spec, message):
    with pytest.raises(InputError, match=message):
        make_task(spec)


@pytest.mark.parametrize(
    ("spec", "camera", "nearest"),
    [("lift", "agentveiw", "agentview"), ("pusht", "images", "image"), ("hopper", "trak", "track")],
)
def test_an_unknown_camera_is_refused_with_the_nearest(spec, camera, nearest):
    with pytest.raises(InputError, match=f"did you mean '{nearest}'"):
        make_task(spec, cameras=[camera])


def test_a_camera_asked_for_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        make_task("hopper", cameras=["track", "track"])


@pytest.mark.parametrize("size", [(0, 84), (84,), (84.5, 84)])
def test_a_picture_needs_a_size(size):
    with pytest.raises(InputError, match="image size"):
        make_task("pusht", cameras=["image"], image_size=size)


def test_settings_override_a_preset():
    task = make_task("lift:rate=10,actions=xyz+gripper,horizon=7")
    assert task.name == "lift:rate=10,actions=xyz+gripper,horizon=7"
    assert task.contract.rate == 10
    assert task.contract.action_names == ["delta_x", "delta_y", "delta_z", "gripper"]
    assert task.horizon == 7
    assert make_task("lift-quick:horizon=9").horizon == 9


def test_the_quick_preset_is_what_it_stands_for():
    quick = make_task("lift-quick")
    long = make_task("lift:rate=10,actions=xyz+gripper,horizon=40,physics_step=0.004")
    assert quick.contract == long.contract
    assert quick._model.opt.timestep == long._model.opt.timestep == 0.004


def test_every_name_is_named_once():
    assert len(set(task_names())) == len(task_names())
    assert {"lift", "lift-quick", "pusht", "halfcheetah", "hopper", "walker2d", "door"} <= set(task_names())
