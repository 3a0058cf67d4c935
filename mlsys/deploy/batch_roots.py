"""Places below which the jobs of clients read and write: whatever else they name is refused.

A client that could name any URI would have the server read its own files, or ask hosts that only the server reaches.
So a place is compared with the roots after symbolic links are followed, and a URI is refused if it has parts by which
two programs may understand two things: ``..``, ``%``, a query, a user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlsys import errors
from mlsys.predict.validation import cut
from mlsys.readers import files

_MARKS = {
    r"[\x00-\x1f\x7f]": "a control character",
    r"\\": "a backslash",
    r"\$": "$, which would be a variable of the server",
    r"^~": "~, which would be a folder of the server's user",
    r"(^|/)\.\.(/|$)": "..",
}
_MARKS_OF_URIS = {r"%": "%", r"[?#]": "a query or a fragment", r"@": "a user"}


@dataclass(frozen=True)
class Roots:
    """Folders of this machine and URIs, each with all that lies below it; a relative path counts from the first."""

    places: tuple[str, ...]

    def resolve(self, text: str, field: str) -> str:
        """The absolute path or URI of a place that a client names.

        Raises
        ------
        RequestError
            It is not below a root, or written in a way that may mean something else.
        """
        mark = _mark(text)
        if mark is not None:
            expected = "a path or a URI as it is, without anything to be expanded"
            raise refusal(field, f"'{cut(text)}', which has {mark}", expected)
        is_relative = not files.scheme(text) and not PurePosixPath(text).is_absolute()
        location = f"{_normal(self.places[0])}/{text}" if is_relative else text
        if not self.holds(location):
            known = ", ".join(place if files.scheme(place) else PurePosixPath(place).name for place in self.places)
            hint = "a path that is relative to the first of them; deploy.batch.roots of the recipe names others"
            raise refusal(field, f"'{cut(text)}', a place outside", f"one below: {known}", hint)
        return location

    def holds(self, location: str) -> bool:
        """True if a path or URI lies below a root."""
        if _is_local(location) and "\0" not in location:
            path = Path(_path(location)).resolve()
            return any(path.is_relative_to(Path(_path(place)).resolve()) for place in self.places if _is_local(place))
        is_below = any(location == root or location.startswith(f"{root}/") for root in map(_normal, self.places))
        return is_below and _mark(location) is None

    def check(self, locations: Iterable[str]) -> None:
        """Refuse files outside, which symbolic links and globs may have led to.

        Raises
        ------
        RequestError
            One lies elsewhere.
        """
        for location in locations:
            if not self.holds(location):
                got = f"'{PurePosixPath(location).name}', which lies outside of the roots"
                raise refusal("input", got, "files below a root alone")


def refusal(field: str, got: str, expected: str, hint: str | None = None) -> errors.RequestError:
    """Build the error of a value in the order of a job, with the fault as clients read it."""
    error = errors.RequestError.build(f"batch: {field}", got=got, expected=expected, hint=hint, field=field)
    error.violations = [{"row": "all", "field": field, "got": got, "expected": expected}]
    return error


def _mark(text: str) -> str | None:
    """The part of a text that is not taken as it is, or None."""
    marks = _MARKS | (_MARKS_OF_URIS if files.scheme(text) else {})
    return next((meaning for pattern, meaning in marks.items() if re.search(pattern, text)), None)


def _is_local(location: str) -> bool:
    return files.scheme(location) in ("", "file")


def _path(location: str) -> str:
    return location.partition("://")[2] if files.scheme(location) == "file" else location


def _normal(place: str) -> str:
    scheme = files.scheme(place)
    return f"{scheme}://{place.partition('://')[2].rstrip('/')}" if scheme else place.rstrip("/")
