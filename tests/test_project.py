"""The frame around the code: packaging, the two commands, and nothing of one machine in the tree."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("commands", "episodes", "policies", "rewards", "sim", "finetune", "robot")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()

# Written in pieces, so that this file does not find itself.
HOSTS = (
    "py" + "pi.org",
    "python" + "hosted",
    "npm" + "js.",
    "whl/" + "cpu",
    "whl/" + "cu",
    "cr" + "ates.io",
    "conda" + ".org",
)
MACHINE_PATH = re.compile(r"(?<![\w./~-])/" + r"(work|root|home|Users|mnt|media)/\w")
OPTIONS = re.compile(r"--(extra-)?index" + r"-url|--find" + r"-links|--trusted" + r"-host")


def tracked() -> list[Path]:
    """The files that git keeps or would add; without git, the files outside hidden and generated folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        generated = re.compile(r"(^|/)(\.(?!ci)[^/]+|__pycache__|build|dist|install|log|runs|[^/]+\.egg-info)(/|$)")
        paths = [path for path in ROOT.rglob("*") if not generated.search(str(path.relative_to(ROOT)))]
    return sorted(path for path in paths if path.is_file())


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_every_room_that_exists_is_packaged_and_no_other_folder():
    listed = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    there = [room for room in ROOMS if (ROOT / room / "__init__.py").exists()]
    assert sorted(pattern.rstrip(".*") for pattern in listed) == sorted(there)
    assert PROJECT["tool"]["setuptools"]["py-modules"] == ["firsthand"]


def test_every_folder_of_python_in_a_room_is_a_package():
    without = {
        str(path.parent.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }
    assert not without, "these would be left out of an installation"


def test_ros_and_pip_are_told_the_same():
    assert PACKAGE.findtext("name") == PROJECT["project"]["name"] == "firsthand"
    assert PACKAGE.findtext("version") == PROJECT["project"]["version"]
    assert " ".join((PACKAGE.findtext("description") or "").split()) == PROJECT["project"]["description"]
    assert PACKAGE.findtext("license") == "Apache-2.0"
    assert PACKAGE.findtext("export/build_type") == "ament_python"
    assert (ROOT / "resource" / "firsthand").exists()
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert (ROOT / PROJECT["project"]["readme"]).exists()


def test_constraints_and_dependencies_do_not_contradict_each_other():
    requirement = pytest.importorskip("packaging.requirements").Requirement
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    constraints = {r.name: r.specifier for r in map(requirement, filter(None, lines))}
    for dependency in map(requirement, PROJECT["project"]["dependencies"]):
        for pin in constraints.get(dependency.name, ()):
            if pin.operator == "==":
                assert dependency.specifier.contains(pin.version), f"{dependency} against {dependency.name}{pin}"


def test_the_changelog_knows_this_version():
    assert re.search(
        rf"^## \[(Unreleased|{re.escape(PROJECT['project']['version'])})\]", text_of(ROOT / "CHANGELOG.md"), re.M
    )


def test_the_console_script_helps():
    command = Path(sys.executable).parent / "firsthand"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_help_loads_no_heavy_library():
    code = (
        "import sys, firsthand; print(*sorted({'torch', 'mujoco', 'zarr', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("target", ["demo", "test", "lint", "setup", "help"])
def test_make_has_the_target_and_says_so(target: str):
    makefile = text_of(ROOT / "Makefile")
    assert re.search(rf"^{target}:", makefile, re.M)
    if target != "help":
        shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert f"make {target} " in shown


def test_make_refuses_a_python_that_will_not_do():
    """One line that says what is wrong and how to name another one; nothing is made."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "libraries", "PYTHON=/nowhere/python"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("firsthand:")]
    assert len(told) == 1
    assert "/nowhere/python is not Python 3.11 or newer" in told[0]
    assert "make PYTHON=" in told[0]


def test_ci_lints_and_ends_with_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line.split("#")[0].strip() for line in script.read_text().splitlines()]
    commands = [line for line in commands if line.startswith("make ")]
    assert [line.split()[1] for line in commands] == ["lint", "test"]
    assert "set -euo pipefail" in script.read_text()


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if any(host in line for host in HOSTS) or MACHINE_PATH.search(line) or OPTIONS.search(line)
    ]
    assert not found


def test_that_search_would_find_them():
    assert MACHINE_PATH.search("see /" + "home/ann/logs")
    assert MACHINE_PATH.search('"/' + 'work/main"')
    assert not MACHINE_PATH.search("~/" + "work/x") and not MACHINE_PATH.search("docs/" + "work/x")
    assert OPTIONS.search("pip install --index" + "-url x")
