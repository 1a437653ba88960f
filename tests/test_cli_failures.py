"""The command line where something else goes wrong: a disk, an endpoint, an interrupt, a reader that has gone."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from episodes.store import Store
from tests.command_line import CHAT, run

pytest_plugins = ("tests.command_line",)


def test_it_is_one_line_in_a_process_of_its_own_too(here, root):
    """Where the simulator's own libraries could warn on stderr."""
    done = subprocess.run(
        [sys.executable, str(root / "firsthand.py"), "collect", "new", "--task", "lift-quick", "--camera", "font"],
        cwd=here,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("firsthand: unknown camera 'font'") and done.stderr.count("\n") == 1, done.stderr
    assert not (here / "new").exists()


def test_an_endpoint_that_is_down_is_said_in_the_last_line_and_labels_nothing(own, capfd):
    """Before it stand what was going to be asked, and how far it got."""
    store = own("seen")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        assert run("label", store, *CHAT, "--name", "new", "--url", url) == 2
    out, err = capfd.readouterr()
    assert out == "" and "Traceback" not in err
    announced, *_, said = err.splitlines()
    assert announced.startswith("firsthand: judge 'chat' will compare 40 pairs")
    assert said.startswith(f"firsthand: {url}: cannot be reached") and "see whether the url is right" in said
    assert "new" not in Store.open(store).snapshot().label_names
    assert not (store / "labellers" / "new").exists()


def test_an_interrupt_is_said_and_has_its_own_code(here, capfd, monkeypatch):
    def interrupted(path: Path, **_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("episodes.inspect.inspect_store", interrupted)
    assert run("inspect", "store") == 130
    assert capfd.readouterr() == ("", "firsthand: interrupted; what was complete is kept\n")


def test_a_disk_that_says_no_is_one_line_too(here, capfd, monkeypatch):
    def full(path: Path, **_: Any) -> None:
        raise OSError(28, "No space left on device", "store/chunks")

    monkeypatch.setattr("episodes.inspect.inspect_store", full)
    assert run("inspect", "store") == 2
    assert capfd.readouterr() == ("", "firsthand: store/chunks: No space left on device\n")


def test_a_reader_that_has_seen_enough_is_no_error(here, root):
    """As in `firsthand inspect store | head -1`."""
    with subprocess.Popen(
        [sys.executable, str(root / "firsthand.py"), "inspect", "store"],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_a_bug_is_not_dressed_up_as_bad_input(here, monkeypatch):
    monkeypatch.setattr("episodes.inspect.inspect_store", lambda path, **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("inspect", "store")
