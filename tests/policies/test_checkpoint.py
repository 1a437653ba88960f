"""Checkpoints: whole, tamper-evident, and all that a learner needs to go on."""

import json
from hashlib import sha256

import pytest
import torch
from safetensors.torch import load_file

from episodes.contract import Camera, Contract
from episodes.errors import InputError
from policies.checkpoint import DESCRIPTION, TENSORS, load_checkpoint, save_checkpoint
from policies.registry import config_class, make_algorithm


def learner(name: str, preparation, batch, updates: int = 3):
    config = config_class(name)(hidden=(16, 16), dropout=0.5, learning_rate=1e-2)
    algorithm = make_algorithm(name, config, preparation(chunk=2), seed=3, decay_steps=30)
    for step in range(updates):
        algorithm.update(batch(step, chunk=2))
    return algorithm


@pytest.mark.parametrize("name", ["bc", "iql", "famo2o"])
def test_a_loaded_learner_acts_and_learns_on_as_the_saved_one(name, preparation, batch, contract, tmp_path):
    """Parameters, optimisers, schedule and the dropout generator; on disk, after as many updates again."""
    algorithm = learner(name, preparation, batch)
    save_checkpoint(tmp_path / "a", algorithm, contract)
    loaded = load_checkpoint(tmp_path / "a").algorithm
    assert type(loaded) is type(algorithm) and loaded.config == algorithm.config
    assert (loaded.step, loaded.decay_steps) == (3, 30)
    state = torch.randn(5, 3)
    assert torch.equal(loaded.act(state), algorithm.act(state))
    for step in range(3, 6):
        algorithm.update(batch(step, chunk=2))
        loaded.update(batch(step, chunk=2))
    save_checkpoint(tmp_path / "b", algorithm, contract)
    save_checkpoint(tmp_path / "c", loaded, contract)
    assert (tmp_path / "b" / TENSORS).read_bytes() == (tmp_path / "c" / TENSORS).read_bytes()


def test_a_checkpoint_says_what_belongs_to_it(preparation, batch, contract, tmp_path):
    with_camera = Contract(contract.name, contract.state, contract.action, (Camera("front", 48, 64),), contract.rate)
    digest = save_checkpoint(
        tmp_path / "a",
        learner("bc", preparation, batch),
        with_camera,
        camera="front",
        encoder="efficientnet_lite0",
        beside={"generator": torch.arange(5, dtype=torch.uint8)},
        note={"step": 3, "word": "x"},
    )
    saved = load_checkpoint(tmp_path / "a")
    assert saved.hash == digest == sha256((tmp_path / "a" / TENSORS).read_bytes()).hexdigest()
    assert saved.contract == with_camera
    assert (saved.camera, saved.encoder, saved.image_size) == ("front", "efficientnet_lite0", (48, 64))
    assert saved.beside.keys() == {"generator"} and saved.beside["generator"].tolist() == [0, 1, 2, 3, 4]
    assert saved.note == {"step": 3, "word": "x"}


def test_it_is_json_and_safetensors_and_nothing_else(preparation, batch, contract, tmp_path):
    save_checkpoint(tmp_path / "a", learner("iql", preparation, batch), contract)
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [DESCRIPTION, TENSORS]
    assert json.loads((tmp_path / "a" / DESCRIPTION).read_text())["algorithm"] == "iql"
    assert "module/target/weights.0" in load_file(tmp_path / "a" / TENSORS)


def test_the_same_learner_has_the_same_hash_and_another_one_another(preparation, batch, contract, tmp_path):
    digests = [
        save_checkpoint(tmp_path / str(index), learner("bc", preparation, batch, updates), contract)
        for index, updates in enumerate((3, 3, 4))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_one_changed_byte_is_refused(preparation, batch, contract, tmp_path):
    save_checkpoint(tmp_path / "a", learner("bc", preparation, batch), contract)
    file = tmp_path / "a" / TENSORS
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match="does not match its description"):
        load_checkpoint(tmp_path / "a")


def test_another_learners_tensors_are_refused(preparation, batch, contract, tmp_path):
    for name, updates in (("a", 3), ("b", 4)):
        save_checkpoint(tmp_path / name, learner("bc", preparation, batch, updates), contract)
    (tmp_path / "a" / TENSORS).write_bytes((tmp_path / "b" / TENSORS).read_bytes())
    with pytest.raises(InputError, match="does not match its description"):
        load_checkpoint(tmp_path / "a")


@pytest.mark.parametrize("spoil", ["folder", TENSORS, DESCRIPTION, "half", "no json", "no tensors"])
def test_a_missing_or_damaged_checkpoint_is_refused_in_one_line(spoil, preparation, batch, contract, tmp_path):
    path = tmp_path / "a"
    save_checkpoint(path, learner("bc", preparation, batch), contract)
    if spoil == "folder":
        path = tmp_path / "nowhere"
    elif spoil == "half":
        (path / TENSORS).write_bytes((path / TENSORS).read_bytes()[:100])
    elif spoil == "no json":
        (path / DESCRIPTION).write_text("{")
    elif spoil == "no tensors":
        (path / TENSORS).write_bytes(b"x")
        described = json.loads((path / DESCRIPTION).read_text()) | {"sha256": sha256(b"x").hexdigest()}
        (path / DESCRIPTION).write_text(json.dumps(described))
    else:
        (path / spoil).unlink()
    with pytest.raises(InputError) as refusal:
        load_checkpoint(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_crash_while_saving_leaves_no_checkpoint(preparation, batch, contract, tmp_path, monkeypatch):
    algorithm = learner("bc", preparation, batch)
    save_checkpoint(tmp_path / "old", algorithm, contract)
    before = (tmp_path / "old" / TENSORS).read_bytes()
    monkeypatch.setattr("policies.checkpoint.json.dumps", lambda *_, **__: 1 / 0)
    algorithm.update(batch(9, chunk=2))
    for name in ("new", "old"):
        with pytest.raises(ZeroDivisionError):
            save_checkpoint(tmp_path / name, algorithm, contract)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / TENSORS).read_bytes() == before


def described(path, **changes):
    """Change what a checkpoint says of itself; None takes a key away."""
    description = json.loads((path / DESCRIPTION).read_text()) | changes
    (path / DESCRIPTION).write_text(json.dumps({key: value for key, value in description.items() if value != "away"}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"camera": "away"}, "camera: Field required"),
        ({"contract": None}, "state.json: contract: Input should be a valid dictionary"),
        ({"algorithm": "iqm"}, "did you mean 'iql'"),
        ({"algorithm": "iql"}, "holds no 'iql' as it is described"),
        ({"config": {"hidden": [32, 32]}}, "holds no 'bc' as it is described"),
        ({"hash": 1}, "unknown key 'hash' in"),
    ],
)
def test_a_description_of_something_else_is_refused(changes, said, preparation, batch, contract, tmp_path):
    save_checkpoint(tmp_path / "a", learner("bc", preparation, batch), contract)
    described(tmp_path / "a", **changes)
    with pytest.raises(InputError, match=said):
        load_checkpoint(tmp_path / "a")


def test_a_description_that_is_no_object_is_refused(preparation, batch, contract, tmp_path):
    save_checkpoint(tmp_path / "a", learner("bc", preparation, batch), contract)
    (tmp_path / "a" / DESCRIPTION).write_text("[1, 2]")
    with pytest.raises(InputError, match=r"state.json: expected an object, got list"):
        load_checkpoint(tmp_path / "a")
