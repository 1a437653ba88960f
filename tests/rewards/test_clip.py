"""The vision-language judge against the paper's equation 3 (Rocamonde et al., 2024), written out as matrices."""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from episodes.encoders import Encoder
from episodes.errors import InputError
from episodes.vision_language import VisionLanguage
from rewards.judge import Frame, Judge, Verdict
from rewards.judges.clip import ClipConfig, ClipJudge
from rewards.sight import Sight

WIDTH = 6
GOAL, BASELINE = "the block is on the target", "the block is on the table"


def unit(seed: int, rows: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass
class Texts:
    """A model that knows some sentences by heart."""

    known: dict[str, np.ndarray]
    logit_scale: float = 20.0
    asked: list[str] = field(default_factory=list)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        self.asked += texts
        return np.stack([self.known[text] for text in texts])


def frames(*rows: int) -> list[Frame]:
    return [Frame({}, row, 0, 0.0) for row in rows]


def sight_of(tables: dict[str, np.ndarray], model: Any, weights: str = "w") -> Sight:
    one = torch.ones(3, 1, 1)
    encoder = Encoder("open_clip:toy", None, one, one, weights, None)
    return Sight(encoder, cast(VisionLanguage | None, model), tables)


def judge_of(
    pictures: np.ndarray | dict[str, np.ndarray],
    target: np.ndarray,
    baseline: np.ndarray | None = None,
    texts: Texts | None = None,
    **config: Any,
) -> ClipJudge:
    """A judge of these pictures, to whose model goal and baseline are these vectors."""
    model = texts or Texts({GOAL: target} | ({} if baseline is None else {BASELINE: baseline}))
    tables = pictures if isinstance(pictures, dict) else {"front": pictures}
    return ClipJudge(sight_of(tables, model), ClipConfig(baseline=None if baseline is None else BASELINE, **config))


def published(x: np.ndarray, goal: np.ndarray, baseline: np.ndarray, alpha: float) -> float:
    """1 - |alpha proj_L(x) + (1 - alpha) x - g|^2 / 2, where L is the line through baseline and goal."""
    x, goal, baseline = (vector.astype(np.float64) for vector in (x, goal, baseline))
    way = (goal - baseline)[:, None]
    projection = way @ np.linalg.inv(way.T @ way) @ way.T
    projected = baseline + projection @ (x - baseline)
    return float(1 - np.sum((alpha * projected + (1 - alpha) * x - goal) ** 2) / 2)


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_scores_are_the_paper_s(seed: int, alpha: float):
    pictures, goal, baseline = unit(seed, 5), unit(seed + 1)[0], unit(seed + 2)[0]
    judge = judge_of(pictures, goal, baseline, regularisation=alpha)
    expected = [published(x, goal, baseline, alpha) for x in pictures]
    np.testing.assert_allclose(judge.score(frames(*range(5)), GOAL), expected, atol=1e-5)


@given(st.integers(0, 2**32))
def test_without_regularisation_and_without_a_baseline_it_is_the_cosine(seed: int):
    pictures, goal, baseline = unit(seed, 5), unit(seed + 1)[0], unit(seed + 2)[0]
    for judge in (judge_of(pictures, goal, baseline, regularisation=0.0), judge_of(pictures, goal)):
        np.testing.assert_allclose(judge.score(frames(*range(5)), GOAL), pictures @ goal, atol=1e-5)


@given(st.integers(0, 2**32), st.floats(-2, 2))
def test_with_all_of_it_only_the_way_from_baseline_to_goal_is_seen(seed: int, much: float):
    goal, baseline = unit(seed + 1)[0].astype(np.float64), unit(seed + 2)[0].astype(np.float64)
    way = goal - baseline
    beside = unit(seed + 3)[0] - way * (unit(seed + 3)[0] @ way) / (way @ way)

    def score(x: np.ndarray) -> float:
        return float(judge_of(np.stack([x]), goal, baseline).score(frames(0), GOAL)[0])

    # What lies beside the way moves no score, at the length that a picture has.
    x = unit(seed)[0].astype(np.float64)
    turned = x + much * beside
    along = (turned / np.linalg.norm(turned) - goal) @ way / np.linalg.norm(way)
    assert score(turned) == pytest.approx(1 - along**2 / 2, abs=1e-6)
    assert score(goal) == pytest.approx(1, abs=1e-6)
    assert score(baseline) == pytest.approx(1 - way @ way / 2, abs=1e-6)


def test_the_moment_that_looks_more_like_the_goal_is_better():
    angles = np.radians([0, 30, 60, 61])
    pictures = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    judge = judge_of(pictures, np.array([1.0, 0.0]), margin=0.05)
    a, b, c, d = frames(0, 1, 2, 3)
    said = dict(judge.prefer([(a, b), (b, a), (c, b), (c, d), (d, c)], GOAL))
    assert [said[position].verdict for position in range(5)] == [
        Verdict.FIRST,
        Verdict.SECOND,
        Verdict.SECOND,
        Verdict.UNSURE,
        Verdict.UNSURE,
    ]
    assert said[0].rationale == "1.0000 against 0.8660"


@given(st.integers(0, 2**32), st.floats(0, 0.5), st.booleans())
def test_it_is_unsure_up_to_the_margin_and_a_pair_turned_round_turns_the_answer(
    seed: int, margin: float, with_baseline: bool
):
    pictures = unit(seed, 6)
    judge = judge_of(pictures, unit(seed + 1)[0], unit(seed + 2)[0] if with_baseline else None, margin=margin)
    scores = judge.score(frames(*range(6)), GOAL).astype(np.float64)
    pairs = [(a, b) for a in frames(*range(6)) for b in frames(*range(6))]
    said = dict(judge.prefer(pairs, GOAL))
    turned = dict(judge.prefer([(b, a) for a, b in pairs], GOAL))
    assert judge.symmetric
    for position, (a, b) in enumerate(pairs):
        apart = scores[a.observation] - scores[b.observation]
        if abs(abs(apart) - margin) > 1e-5:
            expected = Verdict.UNSURE if abs(apart) < margin else Verdict.FIRST if apart > 0 else Verdict.SECOND
            assert said[position].verdict is expected
        assert turned[position].verdict is said[position].verdict.swapped


@pytest.mark.filterwarnings("error")
@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([0.1, 20.0, 100.0]))
def test_success_is_a_probability(seed: int, with_baseline: bool, scale: float):
    goal, baseline = unit(seed + 1)[0], unit(seed + 2)[0]
    pictures = np.concatenate([unit(seed, 5), goal[None], -goal[None], baseline[None], -baseline[None]])
    texts = Texts({GOAL: goal, BASELINE: baseline}, scale)
    judge = judge_of(pictures, goal, baseline if with_baseline else None, texts)
    found = dict(judge.succeeds(frames(*range(9)), GOAL))
    assert sorted(found) == list(range(9))
    assert all(0 <= value <= 1 for value in found.values())
    if with_baseline:
        for row, value in found.items():
            both = np.exp(scale * np.array([pictures[row] @ goal, pictures[row] @ baseline], np.float64))
            assert value == pytest.approx(both[0] / both.sum(), abs=1e-4), "as in zero-shot classification"
    else:
        np.testing.assert_allclose([found[row] for row in range(9)], (pictures @ goal + 1) / 2, atol=1e-6)


def test_of_several_cameras_none_counts_more_than_another():
    """However long the features of one are."""
    left, right = np.array([[3.0, 0, 0, 0, 0, 0]]), np.array([[0, 0.1, 0, 0, 0, 0]])
    goal = unit(0)[0]
    judge = judge_of({"left": left, "right": right}, goal)
    expected = (goal[0] + goal[1]) / np.sqrt(2)
    np.testing.assert_allclose(judge.score(frames(0), GOAL), expected, atol=1e-6)


def test_a_frame_is_the_row_that_it_says():
    pictures = unit(3, 8)
    judge = judge_of(pictures, unit(1)[0])
    np.testing.assert_allclose(judge.score(frames(6, 2, 2), GOAL), (pictures @ unit(1)[0])[[6, 2, 2]], atol=1e-6)
    assert list(judge.prefer([], GOAL)) == []
    assert list(judge.succeeds([], GOAL)) == []


def test_the_goal_is_the_task_s_text_unless_another_is_given():
    texts = Texts({"lift it": unit(1)[0], "it is up": unit(2)[0], BASELINE: unit(3)[0]})
    pictures = unit(0, 3)
    of_task = judge_of(pictures, unit(1)[0], texts=texts)
    np.testing.assert_allclose(of_task.score(frames(0), "lift it"), pictures[:1] @ unit(1)[0], atol=1e-6)
    of_goal = judge_of(pictures, unit(1)[0], texts=texts, goal="it is up")
    np.testing.assert_allclose(of_goal.score(frames(0), "lift it"), pictures[:1] @ unit(2)[0], atol=1e-6)
    judge_of(pictures, unit(1)[0], unit(3)[0], texts).score(frames(0), "lift it")
    assert texts.asked == ["lift it", "it is up", "lift it", BASELINE]


def test_a_text_is_encoded_once_and_every_task_has_its_own():
    texts = Texts({"lift it": unit(1)[0], "drop it": unit(2)[0]})
    judge = judge_of(unit(0, 2), unit(1)[0], texts=texts)
    for _ in range(3):
        for task in ("lift it", "drop it"):
            np.testing.assert_allclose(judge.score(frames(1), task), unit(0, 2)[1:] @ texts.known[task], atol=1e-6)
    assert texts.asked == ["lift it", "drop it"]


def test_a_goal_that_is_the_baseline_is_refused():
    """There is no way from one to the other, and every verdict would be chance."""
    judge = judge_of(unit(0, 2), unit(1)[0], unit(1)[0])
    with pytest.raises(InputError, match="baseline") as caught:
        list(judge.prefer([(frames(0)[0], frames(1)[0])], GOAL))
    assert "\n" not in str(caught.value)


def test_answers_are_kept_under_weights_and_settings():
    configs = [
        ClipConfig(),
        ClipConfig(goal="x"),
        ClipConfig(baseline="x"),
        ClipConfig(margin=0.5),
        ClipConfig(baseline="x", regularisation=0.5),
    ]
    identities = {
        ClipJudge(sight_of({}, Texts({}), weights), config).identity for weights in ("w", "v") for config in configs
    }
    assert len(identities) == 10


def test_an_encoder_that_knows_no_texts_is_refused():
    with pytest.raises(InputError, match="compares pictures with texts, and encoder 'open_clip:toy' knows none"):
        ClipJudge(sight_of({}, None), ClipConfig())


_: type[Judge] = ClipJudge
