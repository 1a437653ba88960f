#!/usr/bin/env python3
"""Installed once under the name of every node, so that `ros2 run firsthand NODE` and launch files find it."""

import sys
from pathlib import Path

from robot.node import run

sys.exit(run(Path(sys.argv[0]).name, sys.argv[1:]))
