"""Names that models, aliases and feature tables may have: what means something else already is refused."""

from __future__ import annotations

import re

GATEWAY = "gateway"
"""Name of the application in front of all models, which no model may have."""

TOGETHER = "together"
"""Name of the application of many models, which no model may have either."""

CONSOLE = "console"
"""Route of the gateway below which the console is."""

VERSION_LIKE = re.compile(r"v?\d+", re.IGNORECASE)
"""Text that reads as a version, or as the version of a protocol: ``/v2`` is the route of Open Inference."""

DIGEST_LIKE = re.compile(r"[0-9a-f]{8,64}", re.IGNORECASE)
"""Text that reads as the digest of a bundle, or as its first digits."""


def model_name(name: str) -> str:
    """Refuse the name of a model that would collide with a route or a digest, else return it.

    >>> model_name("v2")
    Traceback (most recent call last):
    ValueError: another name: /v2 is a route of the gateway
    """
    if name == GATEWAY:
        message = "another name: this one is the gateway's"
    elif name == TOGETHER:
        message = "another name: this one is that of many models in one application"
    elif VERSION_LIKE.fullmatch(name) or name == CONSOLE:
        message = f"another name: /{name} is a route of the gateway"
    elif DIGEST_LIKE.fullmatch(name):
        message = "another name: eight and more of 0-9 and a-f are the digits of a digest"
    else:
        return name
    raise ValueError(message)


def alias(name: str) -> str:
    """Refuse an alias that reads as a version or a digest, or that MLflow keeps for itself, else return it.

    >>> alias("champion"), alias("2024_q3x")
    Traceback (most recent call last):
    ValueError: a letter, then letters, digits, - and _, at most 63 in all
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", name):
        message = "a letter, then letters, digits, - and _, at most 63 in all"
    elif VERSION_LIKE.fullmatch(name) or DIGEST_LIKE.fullmatch(name):
        message = "a word that cannot be taken for a version or a digest, e.g. champion"
    elif name.lower() == "latest":
        message = "another word: MLflow keeps 'latest' for the newest version"
    else:
        return name
    raise ValueError(message)


def table(name: str) -> str:
    r"""Refuse the name of a feature table that is no name of a file, else return it: what is published lies under it.

    >>> table("weather"), table("../../weather")
    Traceback (most recent call last):
    ValueError: a name of at most 100 characters without / and \ that begins with no dot
    """
    if not name or len(name) > 100 or name.startswith(".") or any(c in "/\\" or ord(c) < 32 for c in name):
        message = "a name of at most 100 characters without / and \\ that begins with no dot"
        raise ValueError(message)
    return name
