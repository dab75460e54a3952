"""The token: where it comes from, and who has shown it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from crr_monitor.serve.errors import TokenError

if TYPE_CHECKING:
    from crr_monitor.config import Config

MIN_CHARACTERS = 16
COOKIE = "crr-monitor"
_HOW = "make one with: openssl rand -hex 32"


def read_token(config: Config) -> str | None:
    """The token of the settings, from its file if there is one; ``None`` where none is set.

    Raises:
        TokenError: the file cannot be read, or the token is too short or has characters that no header can carry.
    """
    if config.token_file is None:
        return None if config.token is None else _checked(str(config.token), "CRR_MONITOR_TOKEN")
    path = Path(config.token_file)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(4_096)
    except OSError as error:
        message = f"cannot read the token file {path}: {error.strerror}; {_HOW} > {path}"
        raise TokenError(message) from error
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        message = f"everybody may read the token file {path}: chmod 600 {path}, or 640 and the group of the service"
        raise TokenError(message)
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError as error:
        message = f"the token file {path} holds more than letters, digits and signs; {_HOW} > {path}"
        raise TokenError(message) from error
    return _checked(text, f"the token in {path}")


def _checked(token: str, where: str) -> str:
    if len(token) < MIN_CHARACTERS:
        message = f"{where} has {len(token)} characters, and at least {MIN_CHARACTERS} are needed; {_HOW}"
        raise TokenError(message)
    if not token.isascii() or not token.isprintable() or " " in token:
        message = f"{where} has spaces or characters that are no letters, digits or signs; {_HOW}"
        raise TokenError(message)
    return token


class Guard:
    """Compares what a request shows with the token, in a time that tells nothing about it."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        # The cookie is made from the token, so that it is worth nothing elsewhere, and ends when the token changes.
        self.cookie = hmac.new(self._token, b"crr-monitor page", hashlib.sha256).hexdigest()

    def matches(self, token: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    def allows(self, authorization: str | None) -> bool:
        """Whether a header ``Authorization`` has the token: as ``Bearer``, or as the password of ``Basic``."""
        scheme, _, value = (authorization or "").partition(" ")
        if scheme.lower() == "basic":
            return self.matches(_password(value.strip()))
        return scheme.lower() == "bearer" and self.matches(value.strip())

    def knows(self, cookie: str | None) -> bool:
        """Whether this is the cookie that somebody got who had the token."""
        return cookie is not None and hmac.compare_digest(
            cookie.encode("utf-8", "surrogateescape"), self.cookie.encode()
        )


def _password(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
