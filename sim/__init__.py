"""Simulated tasks, cameras, scripted operators, dynamics gaps, and collecting episodes from them."""

from sim.gl import choose_gl

# MuJoCo reads MUJOCO_GL once, when it is imported: every module of this package passes here first.
choose_gl()
