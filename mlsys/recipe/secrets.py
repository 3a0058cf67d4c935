"""Secrets in sources: taken from the environment where they are used, and shown nowhere.

``postgresql://app:${PGPASSWORD}@host/db`` names an environment variable, whose value is put in when the source is
opened. A password that is written out works as well, but is masked wherever the source is shown or written.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlsys import errors

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Texts are read once from left to right, as they may come from clients.
SCHEME = re.compile(r"[A-Za-z0-9+.-]*$")
USER_END, AUTHORITY_END = re.compile(r"[:/@?#\s]|$"), re.compile(r"[?#\s]|$")
VALUE = re.compile(r"[^&#\s]+")
IS_SECRET = re.compile(
    r"password|passwd|pwd|token|sig|signature|secret|key|credential|auth|x-amz-|x-goog-|.*_(?:key|token|secret)",
    re.IGNORECASE | re.DOTALL,
)
MASK = "***"


def expand(source: str) -> str:
    """Put the values of environment variables into a source; `RecipeError` for one that is not set.

    >>> os.environ["DEMO_PASSWORD"] = "hidden"
    >>> expand("postgresql://app:${DEMO_PASSWORD}@host/db")
    'postgresql://app:hidden@host/db'
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            where = f"recipe: source '{shown(source)}'"
            hint = f"export {match[1]}=…, where the command is typed"
            got = f"no environment variable {match[1]}"
            raise errors.RecipeError.build(where, got=got, expected="one of this name", hint=hint, field=match[1])
        return os.environ[match[1]]

    return VARIABLE.sub(value, source)


def shown(source: str) -> str:
    """A source without its secrets, other than as names of environment variables.

    >>> shown("postgresql://app:hidden@host/db?sslmode=require"), shown("s3://KEY:hidden@bucket/a.csv")
    ('postgresql://app:***@host/db?sslmode=require', 's3://KEY:***@bucket/a.csv')
    >>> shown("postgresql://app:${PASSWORD}@host/db"), shown("https://host/a.csv?token=hidden&v=1")
    ('postgresql://app:${PASSWORD}@host/db', 'https://host/a.csv?token=***&v=1')
    """
    text = _replaced(source, [(each.start, each.end, each.shown) for each in _userinfos(source)])
    return _replaced(text, [(*value.span(), MASK) for value in _secret_values(text) if not _is_variables(value[0])])


def check_lookup(address: str) -> None:
    """Refuse a password that is written out in ``deploy.lookup``, which is noted to serve the model by its name.

    Raises
    ------
    RecipeError
        There is one.

    >>> check_lookup("redis://app:${CACHE_PASSWORD}@cache:6379/0")
    """
    if values([address]):
        raise errors.RecipeError.build(
            "recipe: 'deploy.lookup'", got=shown(address), expected="an address without a password in it: it is noted "
            "beside the model, to serve it by its name", hint="${NAME} in its place, a variable of the environment "
            "here and where the cluster is started; or MLSYS_REDIS_PASSWORD there", field="deploy.lookup",
        )  # fmt: skip


def values(sources: Iterable[str]) -> list[str]:
    """The secrets that are written out in some sources, as they are and unquoted, the longest first."""
    parts: set[str] = set()
    for source in sources:
        parts |= {each.secret or "" for each in _userinfos(source)}
        parts |= {value[0] for value in _secret_values(source)}
    parts |= {urllib.parse.unquote(part) for part in parts}
    return sorted((part for part in parts if part and not _is_variables(part)), key=len, reverse=True)


def masked(text: str, secrets: Iterable[str]) -> str:
    """A text without some secrets."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


@dataclass(frozen=True)
class _Userinfo:
    """``://user:secret@`` or ``://token@`` in a text, from `start` to `end` (RFC 3986, 3.2.1), and the scheme."""

    start: int
    end: int
    scheme: str
    user: str
    secret: str | None

    @property
    def shown(self) -> str:
        """The same without a secret that is written out."""
        if self.secret and not _is_variables(self.secret):
            return f"://{self.user}:{MASK}@"
        is_token = not self.secret and self.scheme.lower() in {"http", "https"} and not _is_variables(self.user)
        between = "" if self.secret is None else f":{self.secret}"
        return f"://{MASK}@" if is_token else f"://{self.user}{between}@"


def _userinfos(source: str) -> Iterator[_Userinfo]:
    """The users of the addresses in a text; a password may hold ``@`` and ``/``, so it reaches to the last ``@``."""
    start, end, last = source.find("://"), -1, -1
    while start != -1:
        begin = start + 3
        if begin > end:
            end = _place(AUTHORITY_END, source, begin)
            last = source.rfind("@", begin, end)
        after = _place(USER_END, source, begin)
        has_secret = source[after : after + 1] == ":" and last > after
        if has_secret or source[after : after + 1] == "@":
            at = last if has_secret else after
            scheme = SCHEME.search(source[max(start - 40, 0) : start])
            secret = source[after + 1 : at] if has_secret else None
            yield _Userinfo(start, at + 1, scheme[0] if scheme else "", source[begin:after], secret)
            begin = at + 1
        start = source.find("://", begin)


def _place(pattern: re.Pattern[str], source: str, start: int) -> int:
    match = pattern.search(source, start)
    return len(source) if match is None else match.start()


def _replaced(text: str, spans: Iterable[tuple[int, int, str]]) -> str:
    """A text with other texts in the places from start to end."""
    parts, at = [], 0
    for start, end, other in spans:
        parts += [text[at:start], other]
        at = end
    return "".join([*parts, text[at:]])


def _secret_values(source: str) -> Iterator[re.Match[str]]:
    """The values of parameters whose names say that they are secret."""
    at = 0
    while (equals := source.find("=", at)) != -1:
        before = source[at:equals].rpartition("#")[2]
        _, *names = re.split("[?;&]", before[max(before.rfind("&"), 0) :])
        at = equals + 1
        if any(map(IS_SECRET.match, names)) and (value := VALUE.match(source, at)) is not None:
            yield value
            at = value.end()


def _is_variables(text: str) -> bool:
    return bool(text) and not VARIABLE.sub("", text)
