"""Configuration: what beats what, and what is refused by name."""

import dataclasses

import pytest
import yaml

from episodes.errors import InputError
from episodes.transitions import SamplingConfig
from episodes.typed import parse, parse_settings, plain
from finetune.config import PRESETS, TrainConfig, resolve
from policies.bc import BCConfig
from policies.iql import IQLConfig


def test_settings_beat_the_file_which_beats_the_preset_which_beats_the_defaults():
    file = {"learner": {"expectile": 0.8}, "sampling": {"reward_bias": -2.0}, "seed": 3}
    defaults, preset = resolve("iql"), resolve("iql", "sparse")
    with_file, with_settings = resolve("iql", "sparse", file), resolve("iql", "sparse", file, {"expectile": 0.6})
    expectiles = [each.learner["expectile"] for each in (defaults, preset, with_file, with_settings)]
    assert expectiles == [0.7, 0.9, 0.8, 0.6]
    assert [each.sampling.reward_bias for each in (defaults, preset, with_file)] == [0.0, -1.0, -2.0]
    assert resolve("iql", "sparse", file, {"reward_bias": 0.5}).sampling.reward_bias == 0.5
    # What the file does not say is still the preset's.
    assert with_file.learner["inverse_temperature"] == 10.0
    assert (with_file.seed, resolve("iql", None, file, {"seed": 4}).seed) == (3, 4)


def test_the_files_algorithm_counts_unless_another_one_is_asked_for():
    assert resolve(None, None, {"algorithm": "bc"}).algorithm == "bc"
    assert resolve("iql", None, {"algorithm": "bc"}).algorithm == "iql"
    assert resolve().algorithm == "iql"


def test_a_resolved_configuration_is_complete_and_gives_itself_again():
    config = resolve("iql", "sparse", None, {"hidden": [32], "labels": "env", "state_entries": ["x"]})
    written = yaml.safe_load(yaml.safe_dump(plain(config)))
    assert set(written["learner"]) == {item.name for item in dataclasses.fields(IQLConfig)}
    assert set(written["sampling"]) == {item.name for item in dataclasses.fields(SamplingConfig)}
    assert set(written) == {item.name for item in dataclasses.fields(TrainConfig)}
    assert parse(TrainConfig, written, "again") == parse(TrainConfig, plain(config), "first")
    again = resolve(None, None, written)
    assert plain(again) == plain(config)
    assert again.algorithm_config() == config.algorithm_config()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("locomotion", (0.7, 3.0, 0.0, 0.0)),
        ("antmaze", (0.9, 10.0, -1.0, 0.0)),
        ("adroit", (0.7, 0.5, 0.0, 0.1)),
    ],
)
def test_the_published_presets_are_what_was_published(name, expected):
    """Kostrikov et al. (2022): expectile, beta, reward shift, dropout; a million updates on raw observations."""
    config = resolve("iql", name)
    learner = config.learner
    got = (learner["expectile"], learner["inverse_temperature"], config.sampling.reward_bias, learner["dropout"])
    assert got == expected
    assert (config.normalise, config.steps) == (False, 1_000_000)
    # What all of them share: Adam at 3e-4, batch 256, discount 0.99, targets at 0.005, two layers of 256, clip 100.
    assert (config.batch_size, config.sampling.discount, config.cosine_decay) == (256, 0.99, True)
    shared = (learner["learning_rate"], learner["target_rate"], learner["hidden"], learner["weight_clip"])
    assert shared == (3e-4, 0.005, (256, 256), 100.0)


def test_a_family_s_published_ranges_come_with_the_presets():
    """Wang et al. (2023): 1 to 5 for locomotion, 8 to 14 for antmaze."""
    ranges = [resolve("famo2o", name).learner["coefficient_range"] for name in ("locomotion", "antmaze", "sparse")]
    assert ranges == [(1.0, 5.0), (8.0, 14.0), (8.0, 14.0)]
    assert "inverse_temperature" not in resolve("famo2o", "antmaze").learner


def test_labelled_is_sparse_for_labels_that_count_minus_one_for_a_step_themselves():
    sparse, labelled = resolve("iql", "sparse"), resolve("iql", "labelled")
    assert (sparse.sampling.reward_bias, labelled.sampling.reward_bias) == (-1.0, 0.0)
    assert dataclasses.replace(labelled, sampling=sparse.sampling) == sparse
    assert dataclasses.replace(labelled.sampling, reward_bias=-1.0) == sparse.sampling


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_fits_every_algorithm(preset):
    config = resolve("bc", preset)
    assert set(config.learner) == {item.name for item in dataclasses.fields(BCConfig)}
    assert config.sampling.reward_bias == PRESETS[preset].get("reward_bias", 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("iqll",), "unknown algorithm 'iqll'; did you mean 'iql'?"),
        (("iql", "sparce"), "unknown preset 'sparce'; did you mean 'sparse'?"),
        (("iql", None, {"step": 5}), "unknown key 'step' in configuration; did you mean 'steps'?"),
        (
            ("iql", None, {"sampling": {"discout": 0.9}}),
            "unknown key 'discout' in configuration.sampling; did you mean 'discount'?",
        ),
        (
            ("iql", None, {"learner": {"expectle": 0.9}}),
            "unknown key 'expectle' in settings of iql; did you mean 'expectile'?",
        ),
        (("iql", None, None, {"batchsize": 3}), "unknown key 'batchsize' in configuration; did you mean 'batch_size'?"),
        (("iql", None, None, {"discout": 3}), "did you mean 'discount'?"),
        (("iql", None, None, {"expectle": 3}), "did you mean 'expectile'?"),
        (("bc", None, None, {"expectile": 0.7}), "unknown key 'expectile' in configuration"),
        (("bc", None, {"learner": {"expectile": 0.7}}), "unknown key 'expectile' in settings of bc"),
        ((None, None, {"algorithm": "ipl"}), "unknown algorithm 'ipl'; did you mean 'iql'?"),
        ((None, None, {"algorithm": None}), "unknown algorithm 'None'"),
        (("iql", None, {"sampling": None}), "configuration: sampling: expected keys and values, got None"),
        (("iql", None, {"learner": 3}), "configuration: learner: expected keys and values, got 3"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_valid_one(arguments, message):
    with pytest.raises(InputError) as refusal:
        resolve(*arguments)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("steps", v) for v in (0, -1, 1.5, "many", None)),
        *(("batch_size", v) for v in (0, "x")),
        ("seed", -1),
        ("device", "gpu"),
        ("camera", 3),
        *(("chunk", v) for v in (0, 1.5)),
        *(("discount", v) for v in (-0.1, 1.1, float("nan"))),
        *(("expectile", v) for v in (0, 1, -0.5, "high")),
        *(("target_rate", v) for v in (0, 1.1)),
        *(("learning_rate", v) for v in (0, -1e-3)),
        *(("dropout", v) for v in (-0.1, 1.0)),
        *(("weight_clip", v) for v in (0, -1)),
        ("inverse_temperature", -1),
        *(("hidden", v) for v in (16, [0], [-3], ["a"], "ab")),
    ],
)
def test_values_that_make_no_sense_are_refused_by_key(key, value):
    with pytest.raises(InputError, match=key) as refusal:
        resolve("iql", None, None, {key: value})
    assert "\n" not in str(refusal.value)


def test_numbers_may_be_written_as_everybody_writes_them():
    """YAML 1.1 alone reads 1e-3 as text."""
    words = ["learning_rate=1e-3", "steps=2e4", "reward_scale=-.5E+1", "seed=7", "hidden=[16, 8]", "normalise=false"]
    settings = parse_settings([*words, "labels=env", "camera=", "state_entries=[x, y]"])
    config = resolve("iql", None, None, settings)
    assert config.learner["learning_rate"] == 0.001
    assert (config.steps, config.sampling.reward_scale, config.seed) == (20_000, -5.0, 7)
    assert config.learner["hidden"] == (16, 8)
    assert (config.normalise, config.labels, config.camera, config.state_entries) == (False, "env", None, ("x", "y"))


@pytest.mark.parametrize("word", ["steps", "=5", "", "hidden=[16", "x: y=a: b: c"])
def test_a_setting_that_is_none_is_refused(word):
    with pytest.raises(InputError, match="setting") as refusal:
        parse_settings([word])
    assert "\n" not in str(refusal.value)


def test_a_configuration_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve("iql").steps = 3  # type: ignore[misc]
