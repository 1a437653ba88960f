"""A labelling's configuration: what beats what, where everything goes, and what is refused by name."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from episodes.errors import InputError
from episodes.typed import parse, plain
from rewards.label import LabelConfig
from rewards.settings import DEFAULT_ENCODER, SECTIONS, label_config
from rewards.shaping import Shape

CLIP = {"task": "t", "judge": "clip", "model": "RN50:/w.pt"}
TIME = {"task": "t", "judge": "progress"}


@pytest.fixture
def written(tmp_path: Path):
    def write(content: Any) -> Path:
        (tmp_path / "c.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return tmp_path / "c.yaml"

    return write


def test_settings_beat_flags_which_beat_the_file_which_beats_the_defaults(written):
    file = written(
        {
            "seed": 3,
            "asking": {"pairs": 5, "rounds": 2},
            "labeller": {"task": "file", "discount": 0.5, "reward": {"members": 4}},
        }
    )
    pairs = []
    for flags, path, settings in (
        (TIME, None, []),
        (TIME, file, []),
        (TIME | {"pairs": 6}, file, []),
        (TIME | {"pairs": 6}, file, ["asking.pairs=7"]),
    ):
        config = label_config(flags, path, settings)
        pairs.append(config.asking.pairs)
    assert pairs == [2000, 5, 6, 7]
    # What is given nowhere above is still the file's.
    assert (config.seed, config.asking.rounds, config.labeller.reward.members) == (3, 2, 4)
    assert (config.labeller.task, config.labeller.discount) == ("t", 0.5)
    assert label_config(TIME | {"seed": 8}, file, []).seed == 8
    assert label_config(TIME | {"seed": 8}, file, ["seed=9"]).seed == 9
    assert label_config({"judge": "progress", "task": None}, file, []).labeller.task == "file"


def test_the_files_judge_counts_unless_another_one_is_asked_for(written):
    file = written({"judge": "progress", "labeller": {"task": "t"}})
    assert label_config({"judge": None}, file, []).judge == "progress"
    assert label_config({"judge": "env"}, file, []).judge == "env"


def test_every_flag_has_its_place():
    flags = {
        "task": "lift",
        "judge": "chat",
        "method": "score",
        "camera": ["a", "b"],
        "model": "gpt",
        "url": "http://127.0.0.1:1/v1",
        "shape": "bonus",
        "pairs": 7,
        "budget": 9,
        "encoder": "efficientnet_lite0",
        "seed": 4,
    }
    config = label_config(flags, None, [])
    labeller, chat = config.labeller, config.judges.chat
    assert chat is not None
    assert (labeller.task, labeller.cameras, labeller.encoder) == ("lift", ("a", "b"), "efficientnet_lite0")
    assert (labeller.shape, config.method, config.judge, config.seed) == (Shape.BONUS, "score", "chat", 4)
    assert (chat.model, chat.url, chat.budget) == ("gpt", "http://127.0.0.1:1/v1", 9)
    assert config.asking.pairs == 7
    assert label_config(CLIP | {"baseline": "a table"}, None, []).judges.clip.baseline == "a table"


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("reward.members=5", lambda c: c.labeller.reward.members == 5),
        ("reward.hidden=[8, 4]", lambda c: c.labeller.reward.hidden == (8, 4)),
        ("reward.learning_rate=1e-4", lambda c: c.labeller.reward.learning_rate == 1e-4),
        ("success.hold=3", lambda c: c.labeller.success.hold == 3),
        ("labeller.discount=0.9", lambda c: c.labeller.discount == 0.9),
        ("labeller.success_text=it is up", lambda c: c.labeller.success_text == "it is up"),
        ("asking.both_orders=false", lambda c: c.asking.both_orders is False),
        ("clip.margin=0.2", lambda c: c.judges.clip.margin == 0.2),
        ("held_out=0.5", lambda c: c.held_out == 0.5),
        ("device=cpu", lambda c: c.device == "cpu"),
    ],
)
def test_a_setting_reaches_its_section(setting: str, found):
    config = label_config(TIME, None, [setting])
    assert found(config) and not found(label_config(TIME, None, []))


def test_every_section_is_a_place_in_the_configuration():
    """Also that of a judge whose settings are only there when they are given."""
    config = label_config(TIME, None, ["chat.url=http://127.0.0.1:1/v1", "chat.model=m"])
    for place in SECTIONS.values():
        section: Any = config
        for name in place:
            section = getattr(section, name)
        assert dataclasses.is_dataclass(section)


def test_what_the_judge_brings_is_the_default():
    """A vision-language model looks for itself; progress compares moments of one episode."""
    clip, progress = label_config(CLIP, None, []), label_config(TIME, None, [])
    assert (clip.labeller.encoder, progress.labeller.encoder) == ("open_clip:RN50:/w.pt", DEFAULT_ENCODER)
    assert (clip.asking.sampling, progress.asking.sampling) == ("uniform", "same_episode")
    assert label_config(TIME, None, ["asking.sampling=stratified"]).asking.sampling == "stratified"


def test_marks_decide_what_rewards_are_made_of_unless_somebody_does():
    for marked, shape, expected in (
        (False, None, Shape.AS_IS),
        (True, None, Shape.POTENTIAL),
        (True, "as_is", Shape.AS_IS),
        (True, "sparse", Shape.SPARSE),
    ):
        assert label_config(TIME | {"shape": shape}, None, [], marked=marked).labeller.shape is expected


def test_the_written_configuration_gives_itself_again(written):
    config = label_config(CLIP | {"pairs": 9}, None, ["reward.hidden=[8]", "success.hold=3"], marked=True)
    assert parse(LabelConfig, plain(config), "again") == config
    assert label_config({"judge": None}, written(plain(config)), []) == config


def test_a_configuration_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        label_config(TIME, None, []).seed = 3  # type: ignore[misc]


REFUSED: dict[str, tuple[dict[str, Any], Any, list[str], str]] = {
    "unknown section": (TIME, None, ["rewards.hidden=[8]"], "unknown section of settings 'rewards'; did you mean 'rew"),
    "unknown key": (
        TIME,
        None,
        ["reward.membrs=2"],
        "unknown key 'membrs' in label.labeller.reward; did you mean 'mem",
    ),
    "unknown key without a section": (TIME, None, ["sed=2"], "unknown key 'sed' in label; did you mean 'seed'?"),
    "unknown key of a judge": (TIME, None, ["clip.margn=2"], "unknown key 'margn' in label.judges.clip; did you mean"),
    "unknown key in the file": (TIME, {"asking": {"pair": 2}}, [], "unknown key 'pair' in label.asking; did you mean"),
    "section of the file": (TIME, {"reward": {}}, [], "unknown key 'reward' in label"),
    "a key with a dot too many": (TIME, None, ["reward.hidden.x=2"], "unknown key 'hidden.x'"),
    "no value": (TIME, None, ["seed"], "setting 'seed': expected key=value"),
    "no key": (TIME, None, ["=3"], "setting '=3': expected key=value"),
    "no YAML": (TIME, None, ["reward.hidden=[8"], "is no YAML value"),
    "text for a number": (TIME, None, ["reward.members=many"], "labeller.reward.members"),
    "half a member": (TIME, None, ["reward.members=1.5"], "labeller.reward.members"),
    "no members": (TIME, None, ["reward.members=0"], "labeller.reward.members"),
    "a discount above 1": (TIME, None, ["labeller.discount=1.1"], "labeller.discount"),
    "not a number": (TIME, None, ["labeller.discount=.nan"], "labeller.discount"),
    "everything held out": (TIME, None, ["held_out=1"], "held_out"),
    "no pairs": (TIME | {"pairs": 0}, None, [], "asking.pairs"),
    "a seed below 0": (TIME | {"seed": -1}, None, [], "seed"),
    "unknown inputs": (TIME, None, ["reward.inputs=sound"], "labeller.reward.inputs"),
    "unknown sampling": (TIME, None, ["asking.sampling=random"], "asking.sampling"),
    "unknown shape": (TIME | {"shape": "potent"}, None, [], "labeller.shape"),
    "unknown method": (TIME | {"method": "guess"}, None, [], "method"),
    "unknown judge": (TIME | {"judge": "oracle"}, None, [], "judge"),
    "unknown judge in the file": ({"task": "t", "judge": None}, {"judge": "oracle"}, [], "judge"),
    "unknown device": (TIME, None, ["device=tpu"], "device"),
    "no task": ({"judge": "progress"}, None, [], "labeller.task: Field required"),
    "a list of settings for a section": (TIME, {"labeller": ["task"]}, [], "labeller: expected keys and values"),
    "a number for a section": (TIME, {"asking": 3}, [], "asking"),
    "nothing for a section": (TIME, {"asking": None}, [], "asking"),
    "a number for a section that a flag is in": (
        TIME | {"pairs": 3},
        {"asking": 3},
        [],
        "asking: expected keys and val",
    ),
    "a number for a section inside": (TIME, {"judges": {"clip": 3}}, ["clip.margin=1"], "judges.clip: expected keys"),
    "file of a list": (TIME, "- a", [], "expected a mapping"),
    "broken file": (TIME, "a: [", [], "not valid YAML"),
    "clip without a model": (
        {"task": "t", "judge": "clip"},
        None,
        [],
        "judge 'clip' needs a vision-language model: --mod",
    ),
    "clip with an encoder that reads nothing": (
        {"task": "t", "judge": "clip", "encoder": "efficientnet_lite0"},
        None,
        [],
        "judge 'clip' needs a vision-language model",
    ),
    "chat without a url": ({"task": "t", "judge": "chat", "model": "m"}, None, [], "url"),
    "chat without a model": ({"task": "t", "judge": "chat", "url": "http://127.0.0.1/v1"}, None, [], "model"),
    "a model for time": (
        TIME | {"model": "m"},
        None,
        [],
        "--model belongs to judge 'clip' or 'chat', and the judge is 'progress'",
    ),
    "a url for time": (TIME | {"url": "http://x"}, None, [], "--url belongs to judge 'chat'"),
    "a budget for clip": (CLIP | {"budget": 3}, None, [], "--budget belongs to judge 'chat'"),
    "a baseline for time": (TIME | {"baseline": "x"}, None, [], "--baseline belongs to judge 'clip'"),
    "two to look through": (CLIP | {"encoder": "open_clip:x:/y"}, None, [], "looks through its own model: leave"),
    "a model for the simulator": (
        TIME | {"judge": "env", "model": "m"},
        None,
        [],
        "--model belongs to judge 'clip' or 'chat'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name_in_one_line(case: str, written):
    flags, content, settings, words = REFUSED[case]
    with pytest.raises(InputError) as refusal:
        label_config(flags, None if content is None else written(content), settings)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot be read"):
        label_config(TIME, tmp_path / "nowhere.yaml", [])


def test_clip_needs_no_model_where_nobody_is_asked():
    """The success classifier looks at any encoder's features."""
    config = label_config({"task": "t", "judge": "clip", "method": "success"}, None, [], marked=True)
    assert config.labeller.encoder == DEFAULT_ENCODER


def test_one_seed_is_every_seed_that_nobody_gave():
    config = label_config(TIME | {"seed": 4}, None, ["success.seed=5"])
    assert (config.seed, config.labeller.reward.seed, config.labeller.success.seed) == (4, 4, 5)
    config = label_config(TIME, None, ["seed=6"])
    assert (config.seed, config.labeller.reward.seed, config.labeller.success.seed) == (6, 6, 6)


def test_success_alone_is_sparse():
    config = label_config(TIME | {"method": "success"}, None, [], marked=True)
    assert config.labeller.shape is Shape.SPARSE
