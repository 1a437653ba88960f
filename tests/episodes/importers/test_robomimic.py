"""robomimic and robosuite files."""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from episodes.episode import Source
from episodes.errors import InputError

ROBOSUITE = {"env_name": "PickPlaceCan", "type": 1, "env_kwargs": {"control_freq": 20, "reward_shaping": False}}


def demo(steps: int = 4, *, actions: int = 7, rewards=None, dones=None, next_obs: bool = True, **obs) -> dict:
    """One demonstration's arrays. Observation t is filled with t, so that what follows what can be read off."""
    ramp = np.arange(steps + 1.0)
    seen = {"robot0_eef_pos": np.repeat(ramp[:, None], 3, 1), "object": np.repeat(ramp[:, None], 2, 1), **obs}
    arrays = {"actions": np.zeros((steps, actions)), **{f"obs/{k}": v[:steps] for k, v in seen.items()}}
    if next_obs:
        arrays |= {f"next_obs/{key}": values[1 : steps + 1] for key, values in seen.items()}
    arrays["rewards"] = np.zeros(steps) if rewards is None else np.array(rewards, float)
    arrays["dones"] = np.zeros(steps) if dones is None else np.array(dones)
    return arrays


def write(path: Path, *demos: dict, env=ROBOSUITE, keys=None) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if env is not None:
            data.attrs["env_args"] = json.dumps(env)
        for key, arrays in zip(keys or [f"demo_{i}" for i in range(len(demos))], demos, strict=True):
            for name, values in arrays.items():
                data.create_dataset(f"{key}/{name}", data=values)
        file.create_dataset("mask/train", data=np.array([b"demo_0"]))
    return path


def test_lift_is_imported_whole(data, load):
    lift = load(data("lift/lift_ph_10.hdf5"))
    assert (len(lift.episodes), lift.steps, lift.transitions) == (10, 531, 531)
    assert lift.left_out == {}
    assert len(lift.contract.action) == 7
    assert len(lift.contract.state) == 10 + 3 + 4 + 3 + 3 + 2 + 2 + 7 + 7 + 7 + 7
    assert lift.contract.camera_names == ["agentview", "robot0_eye_in_hand"]
    assert lift.contract.rate == 20
    assert (lift.contract.action_low == -1).all() and (lift.contract.action_high == 1).all()
    for key, episode in lift.episodes.items():
        assert episode.terminated and not episode.truncated and episode.has_final_observation
        assert episode.task == "lift" and episode.place == "sim" and episode.origin.endswith(f":{key}")
        assert episode.success is not None and episode.success[-1] == 1 and episode.success[0] == 0
        assert episode.source is not None and (episode.source == Source.DEMONSTRATION).all()
        assert episode.observation_time is not None and (np.diff(episode.observation_time) == 50_000_000).all()


def test_lift_state_is_the_file_s_columns_in_sorted_order(data, load):
    path = data("lift/lift_ph_10.hdf5")
    lift = load(path, cameras=())
    names, episode = lift.contract.state_names, lift.episodes["demo_3"]
    with h5py.File(path) as file:
        position = file["data/demo_3/obs/robot0_eef_pos"][:]
        last = file["data/demo_3/next_obs/robot0_eef_pos"][-1]
        actions = file["data/demo_3/actions"][:]
    column = names.index("robot0_eef_pos.x")
    assert names[column : column + 3] == ["robot0_eef_pos.x", "robot0_eef_pos.y", "robot0_eef_pos.z"]
    assert lift.contract.state[column].unit == "m"
    assert lift.contract.state[names.index("robot0_joint_vel.6")].unit == "rad/s"
    np.testing.assert_array_equal(episode.state[:-1, column : column + 3], position.astype(np.float32))
    np.testing.assert_array_equal(episode.state[-1, column : column + 3], last.astype(np.float32))
    np.testing.assert_array_equal(episode.action, actions.astype(np.float32))
    assert episode.images == {} and lift.contract.cameras == ()


def test_lift_pictures_are_rgb_with_the_top_row_first(data, load):
    """In the last frame the red cube hangs below the grey arm, which comes in from the top over a light table."""
    image = load(data("lift/lift_ph_10.hdf5"), cameras=["agentview"]).episodes["demo_0"].images["agentview"][-1]
    red = (image[..., 0].astype(int) - image[..., 1] > 60) & (image[..., 0].astype(int) - image[..., 2] > 60)
    row = np.argwhere(red)[:, 0].mean()
    assert 35 < row < 50
    assert image[60:].mean() > 200 > image[:15].mean()


def test_pictures_are_resized_by_area(tmp_path, load):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 8, 8, 3), np.uint8)
    path = write(tmp_path / "a.hdf5", demo(4, front_image=images))
    whole, small = load(path), load(path, image_size=(4, 2))
    np.testing.assert_array_equal(whole.episodes["demo_0"].images["front"], images)
    camera = small.contract.cameras[0]
    assert (camera.name, camera.height, camera.width) == ("front", 4, 2)
    expected = images.reshape(5, 4, 2, 2, 4, 3).mean((2, 4))
    assert np.abs(small.episodes["demo_0"].images["front"] - expected).max() <= 0.51
    nearest = cv2.resize(images[0], (2, 4), interpolation=cv2.INTER_NEAREST)
    assert not np.array_equal(nearest, small.episodes["demo_0"].images["front"][0])


@pytest.mark.parametrize(
    ("rewards", "dones", "terminated"),
    [
        ([0, 0, 0, 1], [0, 0, 0, 1], True),  # success at the last step
        ([0, 0, 1, 1], [0, 0, 1, 1], True),  # done trails after the first success
        ([0, 0, 0, 0], [0, 0, 0, 1], False),  # the demonstration ended, without success
        ([0, 0, 0, 1], [0, 0, 0, 0], False),  # success, but nothing says that it ended
        ([0, 1, 0, 0], [0, 1, 0, 1], False),  # a success that was lost again
    ],
)
def test_done_is_a_termination_only_with_success(tmp_path, load, rewards, dones, terminated):
    succeeded = demo(rewards=[0, 0, 0, 1], dones=[0, 0, 0, 1])  # so that the file is known to reward success
    file = load(write(tmp_path / "a.hdf5", succeeded, demo(rewards=rewards, dones=dones)))
    episode = file.episodes["demo_1"]
    assert (episode.terminated, episode.truncated) == (terminated, not terminated)
    assert episode.steps == 4 and episode.transitions == 4
    np.testing.assert_array_equal(episode.reward, rewards)
    np.testing.assert_array_equal(episode.success, rewards)


def test_a_shaped_reward_is_no_success(tmp_path, load):
    arrays = [demo(rewards=[0.1, 0.2, 0.3, 0.9], dones=[0, 0, 0, 1]), demo(rewards=[0, 0, 0, 1], dones=[0, 0, 0, 1])]
    told = {**ROBOSUITE, "env_kwargs": {"reward_shaping": True}}
    for file in (load(write(tmp_path / "a.hdf5", *arrays)), load(write(tmp_path / "b.hdf5", arrays[1], env=told))):
        for episode in file.episodes.values():
            assert episode.truncated and episode.success is None and episode.reward is not None


def test_rewards_that_are_never_positive_say_nothing_about_success(tmp_path, load):
    episode = load(write(tmp_path / "a.hdf5", demo(dones=[0, 0, 0, 1]))).episodes["demo_0"]
    assert episode.truncated and episode.success is None
    np.testing.assert_array_equal(episode.reward, [0, 0, 0, 0])


def test_the_final_observation_is_the_last_next_obs(tmp_path, load):
    with_final = load(write(tmp_path / "a.hdf5", demo(4))).episodes["demo_0"]
    without = load(write(tmp_path / "b.hdf5", demo(4, next_obs=False))).episodes["demo_0"]
    np.testing.assert_array_equal(with_final.state[:, 0], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(without.state[:, 0], [0, 1, 2, 3])
    assert (with_final.transitions, without.transitions) == (4, 3)


def test_demonstrations_are_in_numeric_order(tmp_path, load):
    path = write(tmp_path / "a.hdf5", demo(2), demo(3), demo(4), keys=["demo_10", "demo_9", "demo_1"])
    assert [(key, e.steps) for key, e in load(path).episodes.items()] == [("demo_1", 4), ("demo_9", 3), ("demo_10", 2)]


def test_an_unusable_demonstration_is_left_out_with_its_reason(tmp_path, load):
    bad_action, bad_rewards, no_obs = demo(), demo(), demo()
    bad_action["actions"][2, 0] = np.nan
    bad_rewards["rewards"] = np.zeros(3)
    del no_obs["obs/object"]
    short = {**demo(), "obs/object": np.zeros((3, 2))}
    path = write(tmp_path / "a.hdf5", demo(0), bad_action, demo(), bad_rewards, no_obs, demo(actions=6), short, demo(1))
    file = load(path)
    assert list(file.episodes) == ["demo_2", "demo_7"]
    assert file.episodes["demo_7"].steps == 1
    reasons = {
        "demo_0": "no steps",
        "demo_1": "action is not finite at step 2",
        "demo_3": "ragged: rewards",
        "demo_4": "'object' has size None",
        "demo_5": "action size 6, the contract has 7",
        "demo_6": "ragged: obs/object has 3 rows for 4 actions",
    }
    assert set(reasons) == set(file.left_out)
    for key, part in reasons.items():
        assert part in file.left_out[key]


def test_the_contract_is_of_the_first_usable_demonstration(tmp_path, load):
    nan = demo(actions=3)
    nan["actions"][:] = np.nan
    file = load(write(tmp_path / "a.hdf5", demo(0, actions=2), nan, demo(actions=4), demo(actions=5)))
    assert len(file.contract.action) == 4
    assert list(file.episodes) == ["demo_2"]


def test_nothing_usable_is_an_input_error(tmp_path, load):
    with pytest.raises(InputError, match=r"none of 2 demonstrations can be used; demo_0: it has no steps"):
        load(write(tmp_path / "a.hdf5", demo(0), demo(0)))


def test_an_unknown_camera_is_told_with_the_nearest(tmp_path, load):
    images = np.zeros((5, 4, 4, 3), np.uint8)
    path = write(tmp_path / "a.hdf5", demo(agentview_image=images, wrist_image=images))
    with pytest.raises(InputError, match=r"unknown camera 'agentveiw'.*did you mean 'agentview'"):
        load(path, cameras=["agentveiw"])
    assert load(path, cameras=["wrist"]).contract.camera_names == ["wrist"]


def test_other_observations_are_listed(tmp_path, load):
    arrays = {**demo(front_depth=np.zeros((5, 4, 4, 1), np.float32)), "states": np.zeros((4, 9))}
    assert load(write(tmp_path / "a.hdf5", arrays)).importer.ignored == ("states", "obs/front_depth")


def test_limits_only_where_a_controller_scales_its_input(tmp_path, load):
    absolute = {**ROBOSUITE, "env_kwargs": {"controller_configs": {"type": "OSC_POSE", "control_delta": False}}}
    real = {"env_name": "Real", "type": 4, "env_kwargs": {}}
    for index, (env, limited) in enumerate([(ROBOSUITE, True), (absolute, False), (real, False), (None, False)]):
        contract = load(write(tmp_path / f"{index}.hdf5", demo(), env=env)).contract
        assert np.isfinite(contract.action_low).all() == limited
        assert contract.rate == (20 if env is ROBOSUITE else None)
        assert bool(contract.state[-1].unit) == (env is not None and env["type"] == 1)


def test_a_file_that_does_not_say_its_rate_has_no_times(tmp_path, load):
    episode = load(write(tmp_path / "a.hdf5", demo(), env=None), task="stack").episodes["demo_0"]
    assert episode.observation_time is None and episode.action_time is None and episode.task == "stack"


def test_only_a_file_that_names_its_simulator_is_from_one(tmp_path, load):
    assert load(write(tmp_path / "a.hdf5", demo())).episodes["demo_0"].place == "sim"
    assert load(write(tmp_path / "b.hdf5", demo(), env=None)).episodes["demo_0"].place == ""


def test_task_text_comes_from_the_environment(tmp_path, load):
    assert load(write(tmp_path / "a.hdf5", demo())).episodes["demo_0"].task == "pick place can"


def test_broken_metadata_is_an_input_error(tmp_path, load):
    path = write(tmp_path / "a.hdf5", demo())
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = "{not json"
    with pytest.raises(InputError, match=r"env_args is not JSON") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_robosuite_demonstrations_have_the_simulator_s_state(tmp_path, load):
    path = tmp_path / "demo.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env"], data.attrs["env_info"] = "Lift", json.dumps({"robots": ["Panda"]})
        data.create_dataset("demo_1/states", data=np.arange(15.0).reshape(5, 3))
        data.create_dataset("demo_1/actions", data=np.zeros((5, 7)))
    file = load(path)
    episode = file.episodes["demo_1"]
    assert file.contract.state_names == ["sim_state.0", "sim_state.1", "sim_state.2"]
    assert file.contract.name == "Lift" and (file.contract.action_high == 1).all() and file.contract.rate is None
    assert episode.truncated and episode.transitions == 4 and episode.reward is None and episode.success is None
    np.testing.assert_array_equal(episode.state, np.arange(15.0).reshape(5, 3))


def test_damage_inside_one_demonstration_costs_only_that_one(tmp_path, load):
    path = tmp_path / "a.hdf5"
    write(path, demo(), demo())
    marker = np.full((4, 7), 3.14159)
    with h5py.File(path, "r+") as file:
        del file["data/demo_0/actions"]
        file.create_dataset("data/demo_0/actions", data=marker, chunks=(4, 7), fletcher32=True)
    raw = bytearray(path.read_bytes())
    raw[raw.find(marker.tobytes()) + 5] ^= 1
    path.write_bytes(raw)
    file = load(path)
    assert list(file.episodes) == ["demo_1"]
    assert "actions cannot be read" in file.left_out["demo_0"]


@pytest.mark.parametrize("name", ["rewards", "next_obs", "obs/object"])
def test_an_array_that_cannot_be_found_again_is_not_taken_for_absent(tmp_path, load, name):
    path = write(tmp_path / "a.hdf5", demo(), demo())
    with h5py.File(path, "r+") as file:
        del file[f"data/demo_1/{name}"]
        file[f"data/demo_1/{name}"] = h5py.SoftLink("/nowhere")
    file = load(path)
    assert list(file.episodes) == ["demo_0"] and "cannot be read" in file.left_out["demo_1"]


@pytest.mark.parametrize("rate", [1e-10, 1e-300])
def test_a_rate_whose_times_do_not_fit_is_told(tmp_path, load, rate):
    environment = {**ROBOSUITE, "env_kwargs": {"control_freq": rate}}
    path = write(tmp_path / "a.hdf5", demo(), env=environment)
    with pytest.raises(InputError, match=f"at {rate:g} Hz its 5 observations take longer"):
        load(path)
