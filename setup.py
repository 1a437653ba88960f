"""What pyproject.toml cannot say: the files by which ament and `ros2` find this package."""

import shutil
from collections import defaultdict
from pathlib import Path

from setuptools import setup

data_files = defaultdict(list)
data_files["share/ament_index/resource_index/packages"].append("resource/firsthand")
data_files["share/firsthand"] += ["package.xml", "pyproject.toml", "README.md"]  # the last two for --symlink-install
for path in sorted(Path("launch").rglob("*")):
    if path.is_file() and path.suffix in {".py", ".yaml"} and path.name != "node.py":
        data_files[f"share/firsthand/{path.parent}"].append(str(path))

# `ros2 run firsthand NODE` looks for lib/firsthand/NODE; pip's scripts would land in bin/, under names like `actor`.
executables = Path("build/nodes")
executables.mkdir(parents=True, exist_ok=True)
for name in ("sim_robot", "actor", "guardian", "recorder", "rewarder", "learner", "courier"):
    shutil.copy("launch/node.py", executables / name)
    data_files["lib/firsthand"].append(str(executables / name))

distribution = setup(data_files=list(data_files.items()))

# colcon reads the distribution back through repr() and ast.literal_eval(), which a SpecifierSet does not survive.
for holder in (distribution, distribution.metadata):
    holder.python_requires = str(holder.python_requires)
