import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from episodes import doctor
from episodes.doctor import CHECKS, REQUIRED, Check, checks, healthy, missing_libraries, run_probe


@pytest.fixture(scope="module")
def findings() -> list[Check]:
    return checks()


def test_there_is_one_finding_per_check_in_order(findings: list[Check]):
    assert [finding.name for finding in findings] == [name for name, _ in CHECKS]


def test_a_finding_has_the_keys_that_scripts_rely_on(findings: list[Check]):
    assert list(dataclasses.asdict(findings[0])) == ["name", "ok", "detail", "remedy"]


def test_a_remedy_stands_exactly_where_something_is_wrong(findings: list[Check]):
    for finding in findings:
        assert bool(finding.remedy) is not finding.ok, finding
        assert finding.detail, finding
        assert "\n" not in finding.detail + finding.remedy, finding


def test_the_environment_that_runs_the_tests_is_healthy(findings: list[Check]):
    assert healthy(findings), [finding for finding in findings if not finding.ok]


def test_the_required_checks_exist():
    assert {name for name, _ in CHECKS} >= REQUIRED


def test_only_required_checks_decide_health():
    assert healthy([Check("torch", True, ""), Check("ros2", False, "", "source it")])
    assert not healthy([Check("torch", False, "", "install it"), Check("ros2", True, "")])


def test_a_check_that_raises_becomes_a_finding(monkeypatch: pytest.MonkeyPatch):
    def broken(name: str) -> Check:
        raise RuntimeError(f"{name} is upside down")

    monkeypatch.setattr(doctor, "CHECKS", (("torch", broken),))
    (finding,) = checks()
    assert not finding.ok
    assert "torch is upside down" in finding.detail
    assert finding.remedy


def test_a_probe_tells_the_last_line_it_printed():
    assert run_probe("print('chatter'); print('2.0')") == (True, "2.0")


def test_a_probe_tells_the_last_line_of_its_error():
    assert run_probe("import a_module_that_is_not_there") == (
        False,
        "ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
    )


def test_a_probe_survives_a_crash():
    ok, detail = run_probe(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    assert not ok
    assert str(int(signal.SIGSEGV)) in detail


def test_a_probe_survives_a_hang():
    ok, detail = run_probe("import time; time.sleep(60)", timeout=0.5)
    assert not ok
    assert "0.5 s" in detail


def test_a_probe_that_says_nothing_still_has_a_detail():
    assert run_probe("raise SystemExit(3)") == (False, "exit code 3")


def test_missing_libraries_are_named():
    assert missing_libraries(["libc.so.6", "libnobodyhasthis.so.9"]) == ["libnobodyhasthis.so.9"]


def test_a_missing_library_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "missing_libraries", lambda: ["libEGL.so.1"])
    finding = doctor._libraries("libraries")
    assert not finding.ok
    assert "libEGL.so.1" in finding.detail
    assert doctor.APT_PACKAGES in finding.remedy


def test_too_little_disk_and_shared_memory_are_findings(tmp_path: Path):
    assert doctor._disk("disk", tmp_path, enough=0.0).ok
    assert "free" in doctor._disk("disk", tmp_path, enough=1e18).remedy
    assert doctor._shared_memory("shared memory", tmp_path, enough=0).ok
    assert "--shm-size" in doctor._shared_memory("shared memory", tmp_path, enough=1 << 60).remedy
    assert doctor._shared_memory("shared memory", tmp_path / "absent").ok


def test_the_doctor_needs_no_installed_package(root: Path):
    """`make` asks it for missing libraries before anything is installed: -S leaves site-packages out."""
    code = "import episodes.doctor; print(*episodes.doctor.missing_libraries(['libnobodyhasthis.so.9']))"
    environment = {"PATH": os.environ.get("PATH", "")}
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "libnobodyhasthis.so.9"), done.stderr
