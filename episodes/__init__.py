"""Episodes: what robots saw and did, stored whole, labelled beside, sampled fast."""

import os

# Icechunk warns on every local folder that two writers need a lock. Here they have one; see `episodes.store`.
os.environ.setdefault("ICECHUNK_LOG", "icechunk=error")
