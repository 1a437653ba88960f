"""What stamps say, on stamps whose faults are known."""

from dataclasses import replace

import numpy as np
import pytest

from episodes.quality.findings import Finding
from episodes.quality.rows import Rows
from episodes.quality.timing import Timing
from tests.episodes.quality.logs import PERIOD, RATE, clean_log, rows_of

MS = 1_000_000


def stamped(*times_ms: float, state: np.ndarray | None = None, lag_ms: float | None = None, episode: int = 0) -> Rows:
    time = np.array(times_ms) * MS
    steps = len(time) - 1
    sent = np.zeros(steps) if lag_ms is None else time[:-1] + lag_ms * MS
    state = np.arange(len(time), dtype=np.float32)[:, None] if state is None else state
    return Rows(
        episode, state, np.zeros((steps, 1)), time.astype(np.int64), sent.astype(np.int64), np.full(steps, np.nan)
    )


def timing_of(*rows: Rows, rate: float | None = None) -> Timing:
    timing = Timing(rate)
    for each in rows:
        timing.add(each)
    return timing


def faults(*rows: Rows, rate: float | None = None) -> list[tuple[str, str]]:
    return [(each.kind, each.words) for each in timing_of(*rows, rate=rate).findings() if each.episode is not None]


def kinds(timing: Timing) -> set[str]:
    return {each.kind for each in timing.findings()}


EVEN = tuple(range(1000, 1400, 20))


def test_even_stamps_are_known_as_counted_and_measured_ones_are_not():
    assert kinds(timing_of(stamped(*EVEN))) == {"even stamps"}
    jittered = [time + 0.02 * (number % 3) for number, time in enumerate(EVEN)]
    assert kinds(timing_of(stamped(*jittered))) == set()


def test_a_missing_frame_is_counted_and_a_late_one_is_not():
    missing = [time for time in EVEN if time not in (1100, 1120, 1300)]
    ((kind, words),) = faults(stamped(*missing))
    assert kind == "gap"
    assert words == "about 3 frames are missing in 2 places: the longest gap is 0.06 s, after step 4"
    late = [time + (18 if time == 1100 else 0) for time in EVEN]
    assert faults(stamped(*late)) == []
    assert timing_of(stamped(*missing)).gaps == 2


def test_the_last_and_the_first_step_may_have_a_gap():
    for missing in (EVEN[1], EVEN[-2]):
        ((kind, words),) = faults(stamped(*(time for time in EVEN if time != missing)))
        assert kind == "gap" and words.startswith("about 1 frame is missing: the gap is 0.04 s, after step")


def test_a_jump_of_the_clock_is_told_from_frames_that_are_missing_by_what_the_state_did():
    times = [time + (3000 if time >= 1200 else 0) for time in EVEN]
    ((kind, words),) = faults(stamped(*times))
    assert (kind, words) == ("clock", "time jumps by 3.02 s after step 9 and the state goes on")
    moved = np.where(np.array(times) < 4000, 0, 150)[:, None] + np.arange(len(EVEN))[:, None]
    ((kind, words),) = faults(stamped(*times, state=moved.astype(np.float32)))
    assert kind == "gap" and "about 150 frames" in words
    still = np.zeros((len(EVEN), 1), np.float32)
    assert [kind for kind, _ in faults(stamped(*times, state=still))] == ["gap"]


def test_stamps_that_go_back_and_stamps_that_repeat():
    back = [time - (500 if time >= 1200 else 0) for time in EVEN]
    ((kind, words),) = faults(stamped(*back))
    assert (kind, words) == ("clock", "stamps go back by 0.48 s after step 9")
    repeated = [1180 if time == 1200 else time for time in EVEN]
    ((kind, words),) = faults(stamped(*repeated))
    assert (kind, words) == ("repeated", "1 observations have the stamp of the one before")
    assert timing_of(stamped(*back), stamped(*repeated)).backwards == 2


@pytest.mark.parametrize(("rate", "found"), [(50.0, False), (None, False), (46.0, False), (44.0, True), (30.0, True)])
def test_a_rate_is_wrong_beyond_a_tenth(rate, found):
    assert ([kind for kind, _ in faults(stamped(*EVEN), rate=rate)] == ["rate"]) is found


@pytest.mark.parametrize(("lag", "found"), [(0, False), (5, False), (19, False), (21, True), (-1, True)])
def test_an_action_belongs_between_its_observation_and_the_next(lag, found):
    assert ([kind for kind, _ in faults(stamped(*EVEN, lag_ms=lag))] == ["order"]) is found


def test_the_pace_is_that_of_all_steps_that_go_forward():
    pace = timing_of(stamped(0.1, 10, 20, 30, lag_ms=2), stamped(100, 140, 130, 140, lag_ms=4)).pace
    assert pace is not None and pace.lag is not None
    # The steps: 9.9, 10, 10 and 40, 10; one goes back.
    assert (pace.least, pace.median, pace.most) == pytest.approx((0.0099, 0.01, 0.04))
    low, high = np.percentile([9.9, 10, 10, 10, 40], [5, 95])
    assert pace.jitter == pytest.approx((high - low) / 10)
    assert pace.lag[0] == pytest.approx(0.003)


def test_uneven_steps_are_told_of_the_store():
    times = np.cumsum(np.tile([12, 28], 20)) + 1000.0
    timing = timing_of(stamped(*times))
    assert "jitter" in kinds(timing) and "gap" not in kinds(timing)


def test_episodes_without_stamps_are_counted():
    none = stamped(*([0.0] * 5))
    timing = timing_of(none, stamped(*EVEN), none)
    assert timing.unstamped == 2 and np.isnan(timing.seconds).tolist() == [True, False, True]
    assert Finding("no stamps", "2 of 3 episodes have no stamps: rate, gaps and clocks cannot be looked at there") in (
        timing.findings()
    )
    assert timing_of(none).pace is None


def test_a_frame_lost_at_any_step_of_any_clean_episode_is_found():
    (episode,) = clean_log(3, 1, 60)
    assert episode.observation_time is not None and episode.action_time is not None
    for lost in range(1, episode.steps):
        shorter = replace(
            episode,
            state=np.delete(episode.state, lost, axis=0),
            action=episode.action[:-1],
            observation_time=np.delete(episode.observation_time, lost),
            action_time=None,
        )
        (found,) = faults(*rows_of([shorter]), rate=RATE)
        assert found[0] == "gap" and f"after step {lost - 1}" in found[1]
    assert PERIOD * RATE == 1e9
