"""The arrows between the rooms (docs/architecture.md), and what no package may do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT = {
    "episodes": {"episodes"},
    "policies": {"policies", "episodes"},
    "rewards": {"rewards", "episodes"},
    "sim": {"sim", "episodes"},
    "finetune": {"finetune", "policies", "rewards", "sim", "episodes"},
    "robot": {"robot", "finetune", "policies", "rewards", "sim", "episodes"},
    "commands": {"commands", "robot", "finetune", "policies", "rewards", "sim", "episodes"},
}
OURS = {*MAY_IMPORT, "firsthand", "benchmarks", "tests"}
ROS = re.compile(r"(rclpy|ament_|launch|rosbag2|tf2|\w+_(msgs|srvs|interfaces)$)")


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every dotted name that is imported, by statement or by importlib, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; name the package"
            assert node.module is not None
            yield node.module, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "__import__"}:
            yield from (
                (str(argument.value), node.lineno) for argument in node.args if isinstance(argument, ast.Constant)
            )


def at_import_time(tree: ast.Module) -> ast.Module:
    """The module without the bodies of its functions."""

    class WithoutFunctions(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # type: ignore[assignment]

    return ast.fix_missing_locations(WithoutFunctions().visit(tree))


def room_of(name: str) -> str:
    return name.split(".")[0]


def forbidden(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Uses of pickle, eval, exec and a shell, with their lines."""
    for name, line in imports(tree):
        if room_of(name) in {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}:
            yield name, line
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}:
            yield called, node.lineno
        if keywords.get("shell", "False") != "False":
            yield f"{called}(shell=...)", node.lineno
        if keywords.get("allow_pickle", "False") != "False":
            yield f"{called}(allow_pickle=...)", node.lineno
        if called.endswith("torch.load") and keywords.get("weights_only") != "True":
            yield f"{called} without weights_only=True", node.lineno


def room_ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules(*MAY_IMPORT), ids=room_ids)
def test_a_room_imports_only_what_its_row_of_the_table_allows(path: Path):
    room = path.relative_to(ROOT).parts[0]
    for name, line in imports(ast.parse(path.read_text())):
        if room_of(name) in OURS:
            assert room_of(name) in MAY_IMPORT[room], f"{room_ids(path)}:{line}: {room} may not import {name}"


@pytest.mark.parametrize("path", modules(*(MAY_IMPORT.keys() - {"robot"})), ids=room_ids)
def test_nothing_below_robot_knows_ros(path: Path):
    for name, line in imports(ast.parse(path.read_text())):
        assert not ROS.match(room_of(name)), f"{room_ids(path)}:{line}: {name} belongs into robot/"


@pytest.mark.parametrize("path", [*modules("commands"), ROOT / "firsthand.py"], ids=room_ids)
def test_the_command_line_imports_rooms_only_where_it_uses_them(path: Path):
    tree = at_import_time(ast.parse(path.read_text()))
    eager = {name for name, _ in imports(tree) if room_of(name) in OURS - {"commands"}}
    assert eager <= {"episodes.errors"}, "import rooms inside the functions that call them: --help must stay quick"


def test_launch_does_not_shadow_the_launch_package_of_ros():
    assert not list((ROOT / "launch").rglob("__init__.py"))


@pytest.mark.parametrize("path", [*modules(*MAY_IMPORT, "benchmarks"), ROOT / "firsthand.py"], ids=room_ids)
def test_no_pickle_no_eval_no_shell(path: Path):
    found = [f"{room_ids(path)}:{line}: {what}" for what, line in forbidden(ast.parse(path.read_text()))]
    assert not found


def test_docs_show_the_table_that_is_tested():
    table = (ROOT / "docs" / "architecture.md").read_text()
    for room, allowed in MAY_IMPORT.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{room}/`"))
        assert set(re.findall(r"`(\w+)`", row.rsplit("|", 2)[1])) == allowed - {room}, row


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import importlib; importlib.import_module('dill')",
        "eval('1')",
        "subprocess.run('ls', shell=True)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "yaml.load(f)",
    ],
)
def test_the_search_for_forbidden_things_finds_them(code: str):
    assert list(forbidden(ast.parse(code)))


def test_the_search_for_imports_looks_into_functions_and_can_leave_them_out():
    tree = ast.parse("import a.b\ndef f():\n    from c.d import e\n    import g\nif x:\n    import h")
    assert [name for name, _ in imports(tree)] == ["a.b", "c.d", "g", "h"]
    assert [name for name, _ in imports(at_import_time(tree))] == ["a.b", "h"]
