"""Files and folders that are there whole or not at all."""

from pathlib import Path

import pytest

from episodes.files import whole_folder, write_whole


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path):
    write_whole(tmp_path / "a", "old")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_text() == "new" and names(tmp_path) == ["a"]


def test_a_file_that_could_not_be_put_in_place_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_whole(tmp_path / "a", "old")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old" and names(tmp_path) == ["a"]


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path: Path):
    with whole_folder(tmp_path / "f") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "f").exists()
    assert names(tmp_path) == ["f"] and (tmp_path / "f" / "x").read_text() == "1"


def test_a_folder_that_fails_leaves_nothing_new_and_the_old_one_whole(tmp_path: Path):
    with whole_folder(tmp_path / "f") as folder:
        (folder / "x").write_text("1")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "f") as folder:
        (folder / "x").write_text("2")
        raise RuntimeError
    assert names(tmp_path) == ["f"] and (tmp_path / "f" / "x").read_text() == "1"


def test_a_folder_is_replaced_whole(tmp_path: Path):
    for content in ("x", "y"):
        with whole_folder(tmp_path / "f") as folder:
            (folder / content).write_text(content)
    assert names(tmp_path) == ["f"] and names(tmp_path / "f") == ["y"]
