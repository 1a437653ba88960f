"""The page on a store: one HTML file that holds everything it shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from episodes.charts import histogram_chart, map_chart, ranked_chart
from episodes.files import write_whole
from episodes.inspect import Inspection, coverage_words
from episodes.page import picture, render
from episodes.quality.findings import CAMERA_KINDS, KINDS, NOTES, STAMP_KINDS
from episodes.summary import spread

ROWS = 300
"""Episodes in the table at most; those without a fault are left out first."""
PICTURED = 40
"""Rows of the table with a picture of every camera."""
ENTRIES = 8
"""Action entries in the chart of limits."""
FAR = 2.0
"""Multiples of what is near beyond which all points of the map have one colour; half of it is where near ends."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of episodes."""

    episode: int
    steps: int
    seconds: str
    ended: str
    returns: list[str]
    near: str
    origin: str
    faults: list[tuple[str, str]]
    """What kind it is, and what was found."""
    pictures: list[str]


def write_page(inspection: Inspection, file: Path) -> None:
    """Write the page on a store that was inspected."""
    snapshot = inspection.snapshot
    rows = list(_rows(inspection))
    html = render(
        Path(__file__).with_name("page_of_store.html.j2"),
        name=snapshot.path.resolve().name,
        contract=f"{snapshot.contract.name} {snapshot.contract.hash}",
        snapshot=snapshot.id,
        verdict=inspection.verdict,
        facts=_facts(inspection),
        checks=list(_checks(inspection)),
        notes=[(NOTES[each.kind], each.words) for each in inspection.findings if each.episode is None],
        charts=list(_charts(inspection)),
        maps=list(_maps(inspection)),
        cameras=list(_cameras(inspection)),
        labels=[each.name for each in inspection.labelled],
        rows=rows,
        unlisted=snapshot.episodes - len(rows),
        pictured=any(row.pictures for row in rows),
        suspicious=len(inspection.suspicious),
        left_out=snapshot.left_out,
    )
    write_whole(file, html)


def _facts(inspection: Inspection) -> list[tuple[str, str]]:
    snapshot, survey = inspection.snapshot, inspection.survey
    document, contract, pace = inspection.document, snapshot.contract, survey.timing.pace
    lengths = spread(survey.lengths)
    ended = f"{document['terminated']} terminated, {snapshot.episodes - document['terminated']} truncated"
    facts = [("episodes", f"{snapshot.episodes}: {ended}")]
    facts.append(("steps", f"{snapshot.steps}, of which {snapshot.transitions} can be learned from"))
    if lengths:
        facts.append(("lengths", f"{lengths} steps"))
    facts.append(("state, action", f"{len(contract.state)} and {len(contract.action)} numbers"))
    facts.append(("tasks", "; ".join(task or "(none said)" for task in document["tasks"]) or "none"))
    facts.append(("sources", ", ".join(f"{name} {count}" for name, count in document["sources"].items()) or "none"))
    facts.append(("rate", "unknown" if contract.rate is None else f"{contract.rate:g} Hz by the contract"))
    if pace:
        words = f"{pace.least * 1e3:.4g} to {pace.most * 1e3:.4g} ms, median {pace.median * 1e3:.4g} ms"
        facts.append(("period", f"{words}; 9 of 10 steps differ by at most {pace.jitter:.2%} of it"))
        if pace.lag:
            facts.append(("action's lag", _lag(*pace.lag)))
    for each in inspection.labelled:
        returns = spread(each.returns[np.isfinite(each.returns)])
        words = f"{each.covered} of {snapshot.episodes} episodes, return {returns}"
        if each.success_rate is not None:
            words += f", {each.success_rate:.0%} succeed"
        facts.append((f"labels {each.name}", words))
        if each.quality:
            quality = each.quality
            ends = "as was asked" if quality.given else "this store's worst and best episode"
            words = (
                f"{quality.value:.2f}, where 0 is a return of {quality.low:.4g} and 1 is {quality.high:.4g} ({ends})"
            )
            facts.append((f"TQ {each.name}", words))
    if survey.coverage:
        facts.append(("SACo", f"{coverage_words(survey.coverage)} (100 edges per number)"))
    if survey.map and survey.map.support is not None:
        words = f"{survey.map.support:.0%} of the observations have another episode near, within what is moved in 0.5 s"
        facts.append(("support", words if contract.rate else words.replace("0.5 s", "10 steps")))
    return facts


def _lag(median: float, high: float) -> str:
    """How long after their observation actions are stamped, in words; of two quantiles [s]."""
    if median == high == 0:
        return "none: actions have the stamp of their observation"
    return f"median {median * 1e3:.3g} ms, 95% at most {high * 1e3:.3g} ms"


def _checks(inspection: Inspection) -> Iterator[dict[str, str]]:
    """Every fault that was looked for, and how many episodes have it."""
    blind = inspection.survey.timing.unstamped == inspection.snapshot.episodes
    counted = _counted(inspection)
    for kind, words in KINDS.items():
        found = {each.episode for each in inspection.findings if each.kind == kind}
        if kind in STAMP_KINDS and blind:
            state, said = "unknown", "no stamps"
        elif kind in STAMP_KINDS and counted and not found:
            state, said = "unknown", "stamps were counted"
        elif kind in CAMERA_KINDS and inspection.appearance is None:
            state, said = "unknown", "no cameras"
        elif kind == "outside limits" and not inspection.survey.limits.saturation:
            state, said = "unknown", "no limits known"
        else:
            state = "found" if found else "clear"
            said = f"{len(found)} episode{'s' if len(found) > 1 else ''}" if found else "none"
        yield {"state": state, "words": words, "said": said}


def _counted(inspection: Inspection) -> bool:
    return any(each.kind == "even stamps" for each in inspection.findings)


def _charts(inspection: Inspection) -> Iterator[str]:
    survey = inspection.survey
    if not len(survey.lengths):
        return
    yield histogram_chart("Length of episodes", "steps", "episodes", survey.lengths)
    for each in inspection.labelled:
        known = each.returns[np.isfinite(each.returns)]
        yield histogram_chart(f"Return of episodes, {each.name}", "return", "episodes", known)
    if len(steps := survey.timing.steps) and not _counted(inspection):
        yield histogram_chart("Time between observations", "ms", "steps, logarithmic", steps * 1e3, log=True)
    at_limit = {name: share for name, share in survey.limits.saturation.items() if share > 0}
    shares = sorted(at_limit.items(), key=lambda item: -item[1])[:ENTRIES]
    if shares:
        yield ranked_chart("Actions at a limit", "share of steps", dict(shares))


def _maps(inspection: Inspection) -> Iterator[str]:
    """Where the states are: coloured by how near another episode comes, and by what the episode earned or by time."""
    found = inspection.survey.map
    if found is None:
        return
    first, second = (
        f"principal component {n} ({share:.0%} of the variance)" for n, share in enumerate(found.explained, 1)
    )
    if found.support is not None:
        near = np.minimum(found.distance, FAR)
        label = "distance; up to 1 it is near"
        yield map_chart(
            "How near another episode comes", (first, second), found.points, near, label, (0, FAR), middle=True
        )
    rewarded = max(inspection.labelled, key=lambda each: each.covered, default=None)
    if rewarded is not None and rewarded.quality is not None:
        returns = rewarded.returns[found.episode]
        known = np.isfinite(returns)
        title, label = f"What the episode earned, {rewarded.name}", "return"
        limits = float(returns[known].min()), float(returns[known].max())
        yield map_chart(title, (first, second), found.points[known], returns[known], label, limits)
    else:
        yield map_chart("When it was there", (first, second), found.points, found.time, "part of the episode", (0, 1))


def _cameras(inspection: Inspection) -> Iterator[dict[str, str]]:
    """Of every camera a frame of the episode that looks most as usual, and one of every episode that does not."""
    snapshot, appearance = inspection.snapshot, inspection.appearance
    if appearance is None:
        return
    for camera in snapshot.contract.cameras:
        episode = appearance.typical(camera.name)
        if episode is None:
            continue
        every = appearance.every[camera.name]
        looked = "every frame" if every == 1 else f"every {every}th frame"
        words = f"{camera.name}, {camera.height}x{camera.width}, episode {episode}; {looked} was looked at"
        yield {"picture": _middle(inspection, camera.name, episode, 320), "words": words, "odd": ""}
    for finding in inspection.findings:
        if finding.kind in CAMERA_KINDS and finding.episode is not None:
            words = f"episode {finding.episode}: {finding.words}"
            yield {"picture": _middle(inspection, finding.where, finding.episode, 320), "words": words, "odd": "odd"}


def _middle(inspection: Inspection, camera: str, episode: int, side: int) -> str:
    snapshot = inspection.snapshot
    row = int(snapshot.observation_starts[episode] + snapshot.observation_ends[episode]) // 2
    return picture(snapshot.images(camera, row, row + 1)[0], side)


def _rows(inspection: Inspection) -> Iterator[Row]:
    """Suspicious episodes first, then the others in order."""
    snapshot, survey, suspicious = inspection.snapshot, inspection.survey, inspection.suspicious
    near = survey.map.of_episode(snapshot.episodes) if survey.map and survey.map.support is not None else None
    order = [*suspicious, *(episode for episode in range(snapshot.episodes) if episode not in suspicious)]
    cameras = snapshot.contract.camera_names if inspection.appearance else []
    for place, episode in enumerate(order[: max(ROWS, len(suspicious))]):
        seconds = survey.timing.seconds[episode]
        yield Row(
            episode=episode,
            steps=int(survey.lengths[episode]),
            seconds="" if np.isnan(seconds) else f"{seconds:.1f}",
            ended="terminated" if snapshot.terminated[episode] else "truncated",
            returns=[_number(each.returns[episode]) for each in inspection.labelled],
            near="" if near is None or np.isnan(near[episode]) else f"{near[episode]:.0%}",
            origin=snapshot.metadata[episode]["origin"],
            faults=[(KINDS[found.kind], found.words) for found in suspicious.get(episode, [])],
            pictures=[_middle(inspection, camera, episode, 72) for camera in cameras] if place < PICTURED else [],
        )


def _number(value: Any) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"
