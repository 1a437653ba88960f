"""Policies: networks, one file per algorithm, checkpoints, and acting."""
