"""Secrets in sources: taken from the environment where they are used, and shown nowhere.

``postgresql://app:${PGPASSWORD}@host/db`` names an environment variable, whose value is put in when the source is
opened. A password that is written out works as well, but is masked wherever the source is shown or written.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterable

from mlsys import errors

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
USER = re.compile(r"(?P<scheme>^|[^\s'\"]*?)://(?P<user>[^:/@?#\s]*)(?P<secret>:[^?#\s]*)?@")
PARAMETER = re.compile(
    r"(?P<name>[?&;](?:password|passwd|pwd|token|sig|signature|secret|key|credential|auth|x-amz-|x-goog-|[^=&#]*_(?:key|token|secret))[^=&#]*)"
    r"=(?P<value>[^&#\s]+)",
    re.IGNORECASE,
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

    def without_password(match: re.Match[str]) -> str:
        user, secret = match["user"], (match["secret"] or "")[1:]
        if secret and not _is_variables(secret):
            return f"{match['scheme']}://{user}:{MASK}@"
        is_token = not secret and match["scheme"].lower() in {"http", "https"} and not _is_variables(user)
        return f"{match['scheme']}://{MASK}@" if is_token else match[0]

    def without_value(match: re.Match[str]) -> str:
        return match[0] if _is_variables(match["value"]) else f"{match['name']}={MASK}"

    return PARAMETER.sub(without_value, USER.sub(without_password, source))


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
        parts |= {(match["secret"] or "")[1:] for match in USER.finditer(source)}
        parts |= {match["value"] for match in PARAMETER.finditer(source)}
    parts |= {urllib.parse.unquote(part) for part in parts}
    return sorted((part for part in parts if part and not _is_variables(part)), key=len, reverse=True)


def masked(text: str, secrets: Iterable[str]) -> str:
    """A text without some secrets."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _is_variables(text: str) -> bool:
    return bool(text) and not VARIABLE.sub("", text)
