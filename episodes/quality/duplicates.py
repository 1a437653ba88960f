"""Episodes that are in a store twice: they count twice, and a split for validation leaks."""

from hashlib import blake2b

from episodes.quality.findings import Finding
from episodes.quality.rows import Rows


class Duplicates:
    """Knows episodes by what was seen and done; stamps, pictures and where they came from do not count."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._found: list[Finding] = []

    def add(self, rows: Rows) -> None:
        digest = blake2b(rows.state.tobytes() + rows.action.tobytes(), digest_size=16).digest()
        first = self._first.setdefault(digest, rows.episode)
        if first != rows.episode:
            words = f"has the states and actions of episode {first}, every one of them"
            self._found.append(Finding("duplicate", words, rows.episode))

    def findings(self) -> list[Finding]:
        return list(self._found)
