"""Labelling a store end to end: what comes out, what it says of itself, and what survives an end in the middle."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.encoders import Encoder
from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.snapshot import Snapshot
from episodes.store import Store
from rewards.answers import Answers
from rewards.label import LabelConfig, label
from rewards.marks import Marks, Success
from tests.rewards.chat_server import Behaviour, Request, Response, honest, says, serving
from tests.rewards.labelling import (
    BLIND,
    EPISODES,
    FAST,
    MARKS,
    STATES,
    STEPS,
    TASK,
    Watched,
    colours,
    configured,
    way,
    ways,
)

PROMISED = {"labels", "method", "judge", "pairs", "unsure", "accuracy", "spearman", "frames_per_second"}
"""Keys of the document, whatever the method."""


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """Stands in for whatever encoder is asked for."""
    encoder = colours()
    monkeypatch.setattr("rewards.sight.load_encoder", lambda name, device, fast: encoder)
    return encoder


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where an encoder is loaded."""

    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr("rewards.sight.load_encoder", loaded)
    monkeypatch.setattr("rewards.sight.load_vision_language", loaded)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Stands in for whatever judge is asked for."""
    judge = Watched()
    monkeypatch.setattr("rewards.label.make_judge", lambda *_: judge)
    return judge


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return ways(tmp_path / "store")


@pytest.fixture
def blind(tmp_path: Path) -> Store:
    return ways(tmp_path / "blind", contract=BLIND)


def values_of(store: Store, name: str) -> dict[str, bytes]:
    return {key: value.tobytes() for key, value in Store.open(store.path).snapshot().labels(name).values.items()}


def nothing_of(store: Store, name: str) -> bool:
    """Whether neither a label set nor a labeller of that name is there."""
    return name not in Store.open(store.path).snapshot().label_names and not (store.path / "labellers" / name).exists()


def evidence(store: Store, name: str) -> dict[str, Any]:
    return json.loads((store.path / "labellers" / name / "evidence.json").read_text())


# What comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("judge", ["progress", "env"])
def test_states_are_labelled_without_any_picture_or_encoder(judge: str, blind: Store, no_encoder):
    document = label(blind, "mine", configured(judge=judge), truth="logged")
    assert document.keys() >= PROMISED
    assert (document["labels"], document["method"], document["judge"]) == ("mine", "preference", judge)
    assert document["pairs"] == 60
    assert sum(document[key] for key in ("decided", "unsure", "invalid", "same_pictures")) == 60
    assert document["frames_per_second"] > 0
    assert document["accuracy"] == 1.0 if judge == "env" else document["accuracy"] > 0.8
    assert document["spearman"] > 0.8 and document["model_accuracy"] > 0.8
    snapshot = blind.snapshot()
    labels = snapshot.labels("mine")
    assert labels.values.keys() == {"reward", "score", "score_spread"}
    np.testing.assert_array_equal(labels.values["reward"], labels.values["score"])
    assert labels.covered.all() and len(labels.values["reward"]) == snapshot.steps
    # The reward of a step is that of the observation that it led to, in [-1, 0].
    assert -1 <= labels.values["reward"].min() < -0.5 < -0.1 < labels.values["reward"].max() <= 0
    assert np.corrcoef(labels.values["reward"], snapshot.labels("logged").values["reward"])[0, 1] > 0.7


def test_pictures_and_marks_give_a_success_that_ends_the_task(store: Store, encoder):
    document = label(store, "seen", configured(config=FAST, marked=True), marks=MARKS, truth="logged")
    assert document["shape"] == "potential"
    assert document["success_rate"] == pytest.approx(0.5) and document["success"]["false_successes"] == 0
    values = store.snapshot().labels("seen").values
    assert values.keys() == {"reward", "score", "score_spread", "success", "success_probability", "terminated"}
    success = values["success"].reshape(EPISODES, STEPS)
    assert success.max(1).tolist() == [1, 0] * (EPISODES // 2)
    np.testing.assert_array_equal(values["terminated"], values["success"])
    # Potentials by hand: success - 1 + gamma Phi(s') - Phi(s), nothing more to come once it is done.
    score = values["score"].reshape(EPISODES, STEPS)
    after = np.where(success[:, 1:] > 0, 0, score[:, 1:])
    expected = success[:, 1:] - 1 + 0.95 * after - score[:, :-1]
    np.testing.assert_allclose(values["reward"].reshape(EPISODES, STEPS)[:, 1:], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("as_is", lambda score, success: score),
        ("bonus", lambda score, success: score + 10 * success),
        ("sparse", lambda score, success: success - 1),
    ],
)
def test_the_shape_is_what_was_asked_for(shape: str, expected: Callable, store: Store, encoder):
    document = label(store, "x", configured(f"labeller.shape={shape}", marked=True), marks=MARKS)
    values = store.snapshot().labels("x").values
    assert document["shape"] == shape
    np.testing.assert_allclose(values["reward"], expected(values["score"], values["success"]), atol=1e-6)


def test_a_judges_own_scores_are_brought_to_one_scale(blind: Store):
    document = label(blind, "direct", configured("method=score"))
    assert document.keys() >= PROMISED and document["pairs"] == 0
    values = blind.snapshot().labels("direct").values
    assert values.keys() == {"reward", "score"}
    # Time: ten observations, from 0 to 1. The quantiles at 1% and 99% are its ends.
    expected = np.tile(np.arange(1, STEPS + 1) / STEPS - 1, EPISODES)
    np.testing.assert_allclose(values["reward"], expected, atol=1e-6)


def test_success_alone_needs_no_judge(store: Store, encoder, monkeypatch):
    monkeypatch.setattr("rewards.label.make_judge", lambda *_: pytest.fail("a judge was made"))
    document = label(store, "done", configured("method=success", marked=True), marks=MARKS)
    assert document.keys() >= PROMISED
    assert (document["judge"], document["pairs"], document["shape"]) == (None, 0, "sparse")
    values = store.snapshot().labels("done").values
    np.testing.assert_array_equal(values["reward"], values["success"] - 1)


def test_every_camera_is_looked_at_unless_some_are_named(store: Store, encoder):
    for cameras, frames in ((None, 200), (["side"], 0), (["eye", "side"], 0)):
        name = "-".join(cameras or ["all"])
        before = encoder.network.seen
        label(store, name, configured("reward.inputs=features", camera=cameras))
        assert encoder.network.seen - before == frames
        provenance = store.snapshot().labels(name).provenance
        assert provenance["config"]["labeller"]["cameras"] == (cameras or ["eye", "side"])


def test_a_step_without_an_observation_after_it_has_no_reward_and_spoils_its_episode_only_where_it_counts(tmp_path):
    """Truncated, it is no transition; terminated, it would be one with a reward that nobody knows."""
    store = Store.create(tmp_path / "store", BLIND)
    whole = [way(number, contract=BLIND) for number in range(6)]
    store.append([*whole, way(6, contract=BLIND, final=False), way(8, contract=BLIND, final=False, terminated=True)])
    label(store, "mine", configured())
    labels = store.snapshot().labels("mine")
    assert labels.covered.tolist() == [True] * 7 + [False]
    assert np.flatnonzero(np.isnan(labels.values["reward"])).tolist() == [7 * STEPS - 1, 8 * STEPS - 1]


def test_where_success_ends_the_task_a_logged_end_without_its_observation_spoils_nothing(tmp_path, encoder):
    """The classifier says where it ends, and what it has not seen is no transition."""
    store = ways(tmp_path / "store", 6)
    store.append([way(6, final=False, terminated=True)])
    label(store, "seen", configured(config=FAST, marked=True), marks=MARKS)
    labels = store.snapshot().labels("seen")
    assert labels.covered.all()
    assert labels.values["terminated"][-1] == 0 and np.isnan(labels.values["reward"][-1])


# What it says of itself ------------------------------------------------------------------------------------------


def test_a_label_set_says_where_it_is_from(store: Store, encoder):
    config = configured("seed=5", config=FAST, marked=True)
    before = store.snapshot()
    document = label(store, "seen", config, marks=MARKS, truth="logged")
    provenance = store.snapshot().labels("seen").provenance
    expected = {"method", "judge", "task", "shape", "discount", "date", "snapshot", "labeller", "config", "agreement"}
    assert provenance.keys() == expected | {"weights", "judge_identity"}
    assert (provenance["weights"], provenance["judge_identity"]) == (encoder.key, "")
    assert (provenance["method"], provenance["judge"], provenance["task"]) == ("preference", "progress", TASK)
    assert (provenance["shape"], provenance["discount"], provenance["snapshot"]) == ("potential", 0.95, before.id)
    assert provenance["labeller"] == "labellers/seen"
    assert provenance["config"]["seed"] == 5 and provenance["config"]["labeller"]["reward"]["updates"] == 50
    assert provenance["config"]["labeller"]["cameras"] == ["eye", "side"], "what it came to, not what was given"
    for key in ("accuracy", "spearman", "pairs", "unsure", "agreement"):
        assert provenance["agreement"][key] == document[key] is not None
    assert provenance["date"].endswith("+00:00")


def test_potentials_alone_are_made_for_a_discount(store: Store, encoder):
    label(store, "x", configured("labeller.shape=sparse", "labeller.discount=0.5", marked=True), marks=MARKS)
    assert "discount" not in store.snapshot().labels("x").provenance
    label(store, "y", configured("labeller.discount=0.5", marked=True), marks=MARKS)
    assert store.snapshot().labels("y").provenance["discount"] == 0.5


def test_the_evidence_holds_every_pair_and_every_marked_frame(store: Store, encoder):
    document = label(store, "seen", configured(config=FAST, marked=True), marks=MARKS)
    found = evidence(store, "seen")
    assert found["document"] == document
    assert len(found["asked"]) == 60 and {pair["verdict"] for pair in found["asked"]} == {"first", "second"}
    rows, done = MARKS.examples(store.snapshot())
    assert (found["success"]["rows"], found["success"]["done"]) == (rows.tolist(), done.tolist())
    assert len(found["held_out"]) == 2


# Immutable, and refused before anything is done ------------------------------------------------------------------


def refused(store: Store, name: str, config: LabelConfig, watched: Watched, words: str, **options: Any) -> None:
    """One line, and nobody was asked, nothing encoded and nothing written."""
    before = Store.open(store.path).snapshot().id
    with pytest.raises(InputError, match=words) as refusal:
        label(store, name, config, **options)
    assert "\n" not in str(refusal.value)
    assert watched.pairs == 0 and not watched.tasks
    assert Store.open(store.path).snapshot().id == before
    assert not (store.path / "labellers" / name).exists()
    assert not (store.path / "answers.sqlite").exists()


def test_a_name_that_is_taken_is_refused_before_any_work(store: Store, no_encoder, watched):
    opened = store.snapshot()
    store.write_labels(LabelSet("mine", {"reward": np.zeros(opened.steps, np.float32)}, np.ones(EPISODES, bool)))
    words = r"label set 'mine' exists, and label sets are never changed; give another --name"
    refused(store, "mine", configured(config=FAST), watched, words)
    assert not store.snapshot().labels("mine").values["reward"].any()


@pytest.mark.parametrize(
    ("name", "settings", "options", "words"),
    [
        ("logged", [], {}, "label set 'logged' is what the source itself recorded"),
        ("a/b", [], {}, "label set name 'a/b'"),
        ("../up", [], {}, r"label set name '\.\./up'"),
        ("x", ["labeller.task=' '"], {}, r"the task is empty: say in one sentence what is to be done \(--task TEXT\)"),
        ("x", ["labeller.shape=potential"], {}, r"shape 'potential' needs a success classifier: .*--marks FILE"),
        ("x", ["labeller.shape=bonus"], {}, "shape 'bonus' needs a success classifier"),
        ("x", ["labeller.shape=sparse"], {}, "shape 'sparse' needs a success classifier"),
        ("x", ["method=success"], {}, r"learns from marked episodes: give a file of marks \(--marks FILE\)"),
        ("x", [], {"truth": "tru"}, "unknown label set 'tru' in"),
        ("x", [], {"truth": "empty"}, "label set 'empty' has no rewards to measure against"),
        ("x", ["labeller.cameras=[eyes]"], {}, r"unknown camera 'eyes' in .*; did you mean 'eye'\?"),
        ("x", ["labeller.encoder=null"], {}, "encoder"),
        ("x", ["reward.inputs=state", "labeller.encoder=null"], {"marks": MARKS}, "encoder"),
        ("x", [], {"marks": Marks((Success(99),), (1,))}, "has no episode 99; it has 10, counted from 0"),
        ("x", [], {"marks": Marks((Success(0, 99),), (1,))}, "has no observation 99"),
        ("x", [], {"marks": Marks((Success(0),), (0, 1))}, "marks contradict each other on episode 0"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_any_work(
    name, settings, options, words, store: Store, no_encoder, watched
):
    if options.get("truth") == "empty":
        zeros = np.zeros(store.snapshot().steps, np.float32)
        store.write_labels(LabelSet("empty", {"cost": zeros}, np.ones(EPISODES, bool)))
    refused(store, name, configured(*settings, config=FAST), watched, words, **options)


def test_too_few_marks_are_told_before_anybody_is_asked(store: Store, encoder, watched):
    words = "at least 2 successes and 1 failure, got 1 and 1"
    with pytest.raises(InputError, match=words):
        label(store, "x", configured(config=FAST, marked=True), marks=Marks((Success(0),), (1,)))
    assert watched.pairs == 0 and nothing_of(store, "x")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"judge": "chat"}, "judge 'chat' needs an endpoint and a model: --url URL --model NAME"),
        ({"judge": "env"}, r"judge 'env' compares true rewards: name the label set that has them \(--truth NAME\)"),
        ({"judge": "chat", "url": "https://far.example/v1", "model": "m"}, "far.example: needs a key"),
    ],
)
def test_a_judge_that_lacks_something_is_told_so_before_frames_are_encoded(
    flags, words, store: Store, no_encoder, monkeypatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match=words) as refusal:
        label(store, "x", configured(config=FAST, **flags))
    assert "\n" not in str(refusal.value)
    assert nothing_of(store, "x")


def test_a_store_without_pictures_is_told_what_can_be_done_without(blind: Store, watched, no_encoder):
    words = "holds no pictures, and these labels are made by looking; .*--set reward.inputs=state, without marks"
    refused(blind, "x", configured(config=FAST), watched, words)
    refused(blind, "x", configured("reward.inputs=pixels"), watched, words)
    refused(blind, "x", configured(marked=True), watched, words, marks=MARKS)
    refused(blind, "x", configured("method=success", marked=True), watched, words, marks=MARKS)


def test_an_empty_store_is_nothing_to_label(tmp_path: Path, watched):
    refused(Store.create(tmp_path / "s", BLIND), "x", configured(), watched, "holds no episodes to label")


def test_too_few_decisions_are_nothing_to_learn_from(blind: Store):
    with pytest.raises(InputError, match="of 3 pairs, judge 'progress' decided 3: too few to learn from"):
        label(blind, "x", configured(pairs=3))
    assert nothing_of(blind, "x")


# What is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["uniform", "stratified", "same_episode"])
def test_nobody_is_asked_about_held_out_episodes(sampling: str, blind: Store, watched):
    label(blind, "x", configured(f"asking.sampling={sampling}", "held_out=0.4", "asking.rounds=2", pairs=200))
    aside = set(evidence(blind, "x")["held_out"])
    assert len(aside) == 4
    assert watched.episodes == set(range(EPISODES)) - aside, "all others, and no other"
    assert watched.tasks == {TASK}


def test_with_nothing_held_out_everything_is_asked_about(blind: Store, watched):
    label(blind, "x", configured("held_out=0", pairs=200))
    assert evidence(blind, "x")["held_out"] == [] and watched.episodes == set(range(EPISODES))


def test_episodes_that_come_later_are_not_covered(blind: Store):
    label(blind, "x", configured())
    reward = blind.snapshot().labels("x").values["reward"]
    blind.append([way(30, contract=BLIND)])
    labels = Store.open(blind.path).snapshot().labels("x")
    assert labels.covered.tolist() == [True] * EPISODES + [False]
    assert np.isnan(labels.values["reward"][-STEPS:]).all()
    np.testing.assert_array_equal(labels.values["reward"][:-STEPS], reward)


def test_the_same_seed_gives_the_same_labels_to_the_bit_and_another_one_others(tmp_path: Path, encoder):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        store = ways(tmp_path / str(number))
        # A global state that somebody left behind decides nothing.
        np.random.seed(number)
        label(store, "x", configured(f"seed={seed}", config=FAST, marked=True), marks=MARKS)
        found.append(values_of(store, "x"))
    assert found[0] == found[1]
    assert all(found[0][key] != found[2][key] for key in ("reward", "score", "success_probability"))


def test_other_words_for_the_task_encode_nothing_again(store: Store, encoder):
    label(store, "one", configured(config=FAST))
    seen = encoder.network.seen
    assert seen == 2 * EPISODES * (STEPS + 1), "each frame of both cameras once"
    label(store, "two", configured(config=FAST, task="do something else"))
    assert encoder.network.seen == seen
    store.append([way(30)])
    label(store, "three", configured(config=FAST))
    assert encoder.network.seen == seen + 2 * (STEPS + 1), "only what is new"


# An endpoint -----------------------------------------------------------------------------------------------------

CHAT = (
    *STATES,
    "labeller.cameras=[eye]",
    "chat.stages=1",
    "chat.concurrency=1",
    "chat.retries=0",
    "asking.both_orders=false",
)
"""A request per pair, one after the other."""
PAIRS = 30


@contextmanager
def asked_of(behave: Behaviour = honest) -> Iterator[tuple[Any, dict[str, Any]]]:
    """An endpoint, and the flags that lead to it."""
    with serving(behave) as server:
        yield server, {"judge": "chat", "url": server.url, "model": "tiny", "pairs": PAIRS}


def shown(request: Request) -> tuple[bytes, ...]:
    """What tells one question from another."""
    return tuple(picture.tobytes() for picture in request.pictures)


@dataclass(frozen=True)
class Quiet:
    """What comes of a labelling, and how many requests that takes."""

    values: dict[str, bytes]
    requests: int


@pytest.fixture
def quiet(tmp_path: Path) -> Quiet:
    """A labelling that nothing gets in the way of."""
    store = ways(tmp_path / "quiet")
    with asked_of() as (server, flags):
        label(store, "x", configured(config=CHAT, **flags))
        asked = len(server.requests)
    # A pair may come twice, and one that shows the same moment is no question.
    assert PAIRS - 3 <= asked <= PAIRS
    return Quiet(values_of(store, "x"), asked)


def test_no_key_is_kept_anywhere(store: Store, monkeypatch):
    key = "sk-1234567890abcdef"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with asked_of(lambda request: says(f'{{"reasoning": "{key}", "answer": "SECOND"}}')) as (server, flags):
        label(store, "x", configured(config=CHAT, **flags))
        assert server.requests[0].headers["Authorization"] == f"Bearer {key}"
    assert key not in json.dumps(store.snapshot().labels("x").provenance)
    everything = [file for file in store.path.rglob("*") if file.is_file()]
    assert {"answers.sqlite", "evidence.json", "labeller.json"} <= {file.name for file in everything}
    assert not any(key.encode() in file.read_bytes() for file in everything)
    assert "[key]" in (store.path / "labellers" / "x" / "evidence.json").read_text(), "it was said, and taken out"


def test_a_key_in_the_url_is_refused_and_repeated_nowhere_even_if_nobody_is_asked(store: Store, encoder):
    """What is in the configuration is in the provenance, for everybody who gets the store."""
    flags: dict[str, Any] = {"judge": "chat", "url": "https://me:s3cret@far.example/v1"}
    for method, model in (("success", "m"), ("preference", "m"), ("preference", None)):
        with pytest.raises(InputError) as refusal:
            config = configured(f"method={method}", config=FAST, marked=True, model=model, **flags)
            label(store, "x", config, marks=MARKS)
        assert "s3cret" not in str(refusal.value)
        assert nothing_of(store, "x")


def test_what_will_be_asked_is_said_before_it_is_paid_for(store: Store):
    said = []

    def behave(request: Request) -> Response:
        assert said, "nothing is asked before it was announced"
        return honest(request)

    with asked_of(behave) as (_, flags):
        label(store, "x", configured("asking.both_orders=true", config=CHAT, **flags), say=said.append)
    assert len(said) == 1 and "will compare 30 pairs" in said[0] and "requests 60" in said[0]


def test_a_budget_that_is_spent_keeps_every_answer_and_says_how_to_go_on(store: Store, quiet):
    """Run again and again it gets there, asks nothing twice, and comes to the same labels."""
    with asked_of() as (server, flags):
        for number in range(2):
            with pytest.raises(InputError, match=r"the budget of 12 requests is spent .*run the same command again"):
                label(store, "x", configured(config=CHAT, budget=12, **flags))
            assert nothing_of(store, "x")
            assert kept(store) == len(server.requests) == 12 * (number + 1)
        label(store, "x", configured(config=CHAT, budget=12, **flags))
        assert len(server.requests) == len({shown(request) for request in server.requests}) == quiet.requests
    assert values_of(store, "x") == quiet.values


def test_an_endpoint_that_goes_down_keeps_every_answer(store: Store, quiet):
    with asked_of() as (server, flags):
        server.behave = lambda request: honest(request) if len(server.requests) <= 10 else Response(status=500)
        with pytest.raises(InputError, match="5 questions in a row got no answer"):
            label(store, "x", configured(config=CHAT, **flags))
        assert nothing_of(store, "x")
        server.behave, before = honest, len(server.requests)
        label(store, "x", configured(config=CHAT, **flags))
        assert len(server.requests) - before == quiet.requests - 10
    assert values_of(store, "x") == quiet.values


def kept(store: Store) -> int:
    """How many answers are on the disk."""
    answers = Answers(store.path / "answers.sqlite")
    try:
        return answers.count()
    finally:
        answers.close()


def labelling(store: Store, flags: dict[str, Any], root: Path) -> subprocess.Popen[str]:
    """`firsthand label` in a process of its own."""
    words = [word for setting in CHAT for word in ("--set", setting)]
    words += [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-m", "firsthand", "label", str(store.path), "--task", TASK, "--name", "x", "--json", *words],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_any_answer_nothing_is_labelled_and_the_next_one_goes_on_from_the_answers(store: Store, quiet, root):
    """SIGKILL while the endpoint is thinking about the 9th question."""
    process: list[subprocess.Popen[str]] = []

    def deadly(request: Request) -> Response:
        if len(server.requests) == 9:
            # The answer to the one before is on its way to the disk.
            until = time.monotonic() + 20
            while kept(store) < 8 and time.monotonic() < until:
                time.sleep(0.01)
            process[0].kill()
            process[0].wait()
        return honest(request)

    with asked_of(deadly) as (server, flags):
        process.append(labelling(store, flags, root))
        process[0].communicate(timeout=60)
        assert process[0].returncode == -signal.SIGKILL
        assert nothing_of(store, "x")
        assert kept(store) == 8
        server.behave = honest
        label(store, "x", configured(config=CHAT, **flags))
        assert len(server.requests) == 9 + quiet.requests - 8
    assert values_of(store, "x") == quiet.values


def test_of_two_at_once_the_second_is_refused_and_the_first_unharmed(store: Store, quiet, root):
    begun, refused_second = threading.Event(), threading.Event()

    def waiting(request: Request) -> Response:
        begun.set()
        assert refused_second.wait(30)
        return honest(request)

    with asked_of(waiting) as (server, flags):
        first = labelling(store, flags, root)
        try:
            assert begun.wait(60), first.communicate()
            for name in ("x", "y"):
                with pytest.raises(InputError, match="is being labelled by another process; wait until") as refusal:
                    label(store, name, configured())
                assert "\n" not in str(refusal.value)
            # Whoever only reads or records is not kept waiting.
            assert Store.open(store.path).snapshot().episodes == EPISODES
        finally:
            refused_second.set()
            out, err = first.communicate(timeout=60)
        assert first.returncode == 0, err
        assert json.loads(out)["pairs"] == PAIRS and len(server.requests) == quiet.requests
    assert values_of(store, "x") == quiet.values and nothing_of(store, "y")
    label(store, "y", configured())


@pytest.mark.parametrize("where", ["Labeller.save", "Store.write_labels"])
def test_a_death_between_two_writes_leaves_no_label_set_and_the_next_run_makes_it(where, blind, tmp_path, monkeypatch):
    class Dead(Exception):
        pass

    def dying(*_: Any) -> None:
        raise Dead

    owner, name = where.split(".")
    owner = getattr(__import__("rewards.label", fromlist=[owner]), owner)
    with monkeypatch.context() as patch, pytest.raises(Dead):
        patch.setattr(owner, name, dying)
        label(blind, "x", configured())
    assert "x" not in Store.open(blind.path).snapshot().label_names
    label(blind, "x", configured())
    unbroken = ways(tmp_path / "unbroken", contract=BLIND)
    label(unbroken, "x", configured())
    assert values_of(blind, "x") == values_of(unbroken, "x")


def test_answers_kept_elsewhere_serve_another_store_with_the_same_pictures(store: Store, quiet, tmp_path: Path):
    """Paid for once: a question is its pictures, not its place."""
    with asked_of() as (server, flags):
        label(store, "x", configured(config=CHAT, **flags), answers=tmp_path / "kept" / "answers.sqlite")
        other = ways(tmp_path / "other")
        label(other, "x", configured(config=CHAT, **flags), answers=tmp_path / "kept" / "answers.sqlite")
        assert len(server.requests) == quiet.requests
    assert not (store.path / "answers.sqlite").exists()
    assert values_of(store, "x") == values_of(other, "x")


def test_a_label_set_is_of_the_snapshot_that_it_was_begun_with(store: Store):
    """A recorder appends while the judge is thinking: what came later is not covered, and nothing is out of place."""
    with asked_of() as (server, flags):

        def recording(request: Request) -> Response:
            if len(server.requests) == 3:
                Store.open(store.path).append([way(40)])
            return honest(request)

        server.behave = recording
        label(store, "x", configured(config=CHAT, **flags))
    labels = store.snapshot().labels("x")
    assert labels.covered.tolist() == [True] * EPISODES + [False]
    assert np.isnan(labels.values["reward"][-STEPS:]).all()
    assert np.isfinite(labels.values["reward"][:-STEPS]).all()


def test_labels_follow_a_label_set_of_truth_with_holes(blind: Store):
    """Unknown rewards decide nothing, and are not taken for anything."""
    snapshot: Snapshot = blind.snapshot()
    reward = snapshot.labels("logged").values["reward"].copy()
    reward[: 3 * STEPS] = np.nan
    covered = np.arange(EPISODES) >= 3
    blind.write_labels(LabelSet("some", {"reward": reward}, covered))
    document = label(blind, "x", configured("held_out=0", judge="env"), truth="some")
    asked = evidence(blind, "x")["asked"]
    unknown = [pair for pair in asked if min(pair["first"], pair["second"]) < 3 * (STEPS + 1)]
    assert unknown and all(pair["verdict"] == "unsure" for pair in unknown)
    assert document["accuracy"] == 1.0 and document["unsure"] >= len(unknown)


def test_an_episode_of_which_nothing_is_known_is_no_number_that_json_lacks(tmp_path: Path, encoder):
    """One step and no observation after it: no success was seen in it."""
    store = ways(tmp_path / "store", 6)
    short = way(7, final=False)
    first = {name: frames[:1] for name, frames in short.images.items()}
    store.append(
        [replace(short, state=short.state[:1], action=short.action[:1], images=first, reward=None, success=None)]
    )
    document = label(store, "x", configured("method=success", marked=True), marks=MARKS)
    json.dumps(document, allow_nan=False)
    assert document["success_rate"] == pytest.approx(3 / 7)
