"""The page on a store: it stands alone, and says what was found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes.inspect import Inspection, inspect_store
from episodes.labels import LabelSet
from episodes.quality import page
from episodes.quality.findings import KINDS
from episodes.quality.page import write_page
from episodes.store import Store
from tests.episodes.making import SEEING
from tests.episodes.quality.logs import ARM, BLIND, clean_log, frozen_joint, swapped_cameras
from tests.pages import Page


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """Seven episodes; 4 has its cameras swapped, 2 a frozen joint and a name to be escaped. With rewards."""
    rng = np.random.default_rng(0)
    log = clean_log(1, 7, cameras=True)
    log[2] = replace(frozen_joint(log[2], rng), origin="<b>bold</b>", task="stack & sort")
    log[4] = swapped_cameras(log[4], rng)
    store = Store.create(tmp_path_factory.mktemp("page") / "store", ARM)
    store.append(log, [{"episode": "demo_9", "reason": "ragged"}])
    steps = sum(each.steps for each in log)
    ends = np.cumsum([each.steps for each in log])
    reward = np.zeros(steps, np.float32)
    reward[ends[:3] - 1] = 1
    store.write_labels(LabelSet("seen", {"reward": reward, "success": reward}, np.ones(7, bool)))
    return inspect_store(store.path, pictures=True)


def written(inspection: Inspection, folder: Path) -> Page:
    write_page(inspection, folder / "page.html")
    found = Page((folder / "page.html").read_text())
    found.check_it_stands_alone()
    return found


def table_of_episodes(html: str) -> list[str]:
    table = html.split('class="episodes"')[1].split("</table>")[0]
    return table.split("<tr")[2:]


def test_the_page_stands_alone_and_says_what_was_found(faulty, tmp_path):
    shown = written(faulty, tmp_path)
    html = (tmp_path / "page.html").read_text()
    assert "<b>bold</b>" not in html and "stack &amp; sort" in html
    text = " ".join(shown.shown["p"] + shown.shown["td"])
    assert "front shows what wrist usually does" in text and "stood still for" in text
    assert "3 of 7" not in text  # a success rate of 3 in 7 is told as a share
    assert "43% of the episodes succeed (seen)" in text
    assert faulty.verdict.headline in html
    assert {"What was looked for", "Cameras", "Coverage", "Episodes", "Left out at import"} <= set(shown.shown["h2"])


def test_suspicious_episodes_come_first_and_every_one_is_there(faulty, tmp_path):
    written(faulty, tmp_path)
    rows = table_of_episodes((tmp_path / "page.html").read_text())
    numbers = [int(row.split("<td>")[1].split("<")[0]) for row in rows]
    assert set(numbers[:2]) == {2, 4} and numbers[2:] == [0, 1, 3, 5, 6]
    assert ['class="faulty"' in row for row in rows] == [True] * 2 + [False] * 5
    # A kind of fault is named once, however many there are of it.
    assert rows[numbers.index(4)].count("A camera shows what another one should.") == 1
    assert "front shows what wrist usually does;<br>wrist shows what front usually does." in rows[numbers.index(4)]
    # A picture per camera in every row.
    assert all(row.count("<img") == 2 for row in rows)


def test_a_clean_store_has_no_column_for_what_is_suspicious(tmp_path):
    store = Store.create(tmp_path / "store", ARM)
    store.append(clean_log(1, 4, cameras=True))
    shown = written(inspect_store(store.path, pictures=True), tmp_path)
    assert "None is suspicious." in shown.shown["p"]
    assert "what is suspicious" not in (tmp_path / "page.html").read_text()


def test_of_many_episodes_those_without_a_fault_are_left_out_first(faulty, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "ROWS", 3)
    shown = written(faulty, tmp_path)
    assert len(table_of_episodes((tmp_path / "page.html").read_text())) == 3
    assert any("4 without a fault are not listed" in text for text in shown.shown["p"])
    monkeypatch.setattr(page, "ROWS", 1)
    written(faulty, tmp_path)
    assert len(table_of_episodes((tmp_path / "page.html").read_text())) == 2


def test_a_picture_per_camera_and_one_of_every_camera_that_is_odd(faulty, tmp_path):
    shown = written(faulty, tmp_path)
    captions = [text for text in shown.shown["figcaption"] if text]
    assert len(captions) == 4
    assert captions[0].startswith("front, 12x12, episode") and captions[1].startswith("wrist, 12x12, episode")
    assert all("episode 4" not in text for text in captions[:2]) and all("episode 4" in text for text in captions[2:])


def test_every_fault_that_was_looked_for_is_listed(faulty, tmp_path):
    written(faulty, tmp_path)
    html = (tmp_path / "page.html").read_text()
    for words in KINDS.values():
        assert words.replace("'", "&#39;") in html
    checks = html.split('class="checks"')[1].split("</ul>")[0]
    assert checks.count('class="found"') == 2 and checks.count('class="unknown"') == 0


def test_what_could_not_be_looked_for_is_said(tmp_path):
    store = Store.create(
        tmp_path / "store", replace(BLIND, action=tuple(replace(e, low=None, high=None) for e in ARM.action))
    )
    store.append([replace(each, observation_time=None, action_time=None) for each in clean_log(0, 3)])
    written(inspect_store(store.path, pictures=True), tmp_path)
    html = (tmp_path / "page.html").read_text()
    checks = html.split('class="checks"')[1].split("</ul>")[0]
    assert [checks.count(said) for said in ("no stamps", "no cameras", "no limits known")] == [5, 4, 1]
    assert "<h2>Cameras" not in html


def test_an_empty_store_has_a_page(tmp_path):
    Store.create(tmp_path / "store", SEEING)
    shown = written(inspect_store(tmp_path / "store", pictures=True), tmp_path)
    assert "Empty." in shown.shown["h2"]


def test_the_same_store_makes_the_same_page_but_for_the_time(faulty, tmp_path):
    pages = []
    for name in ("a", "b"):
        write_page(faulty, tmp_path / name)
        pages.append((tmp_path / name).read_text().split("written")[1][22:])
    assert pages[0] == pages[1]
