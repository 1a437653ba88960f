"""What pyproject.toml cannot say: the files by which ament and `ros2` find this package."""

from collections import defaultdict
from pathlib import Path

from setuptools import setup

data_files = defaultdict(list)
data_files["share/ament_index/resource_index/packages"].append("resource/firsthand")
data_files["share/firsthand"] += ["package.xml", "pyproject.toml", "README.md"]  # the last two for --symlink-install
for path in sorted(Path("launch").rglob("*")):
    if path.is_file() and path.suffix in {".py", ".yaml"}:
        data_files[f"share/firsthand/{path.parent}"].append(str(path))

distribution = setup(data_files=list(data_files.items()))

# colcon reads the distribution back through repr() and ast.literal_eval(), which a SpecifierSet does not survive.
for holder in (distribution, distribution.metadata):
    holder.python_requires = str(holder.python_requires)
