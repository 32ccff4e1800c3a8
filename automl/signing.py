"""Who may say what workers run: messages signed with a key that drivers and workers share.

The key comes from AUTOML_KEY or the file that AUTOML_KEY_FILE names, never from a command line.
A signature is HMAC-SHA256 over the message as JSON with sorted keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl.errors import ExecutorError

VARIABLE, FILE = "AUTOML_KEY", "AUTOML_KEY_FILE"
# What no process that runs the user's code inherits.
SECRETS = (VARIABLE, FILE, "AUTOML_BROKER", "AUTOML_BROKER_FILE")
_SIGNATURE = "signature"
_LEAST = 16  # characters


def new_key_file(path: Path) -> Path:
    """A file with a new key that only its owner reads; one that is there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=".draft-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # whole or not at all, and never over another
    finally:
        os.unlink(draft)
    return path


def shared_key() -> bytes | None:
    """The key; None when nobody set one.

    Raises:
        ExecutorError: its file cannot be read, or it is too short to be a secret.
    """
    text, where = os.environ.get(VARIABLE), VARIABLE
    if not text and os.environ.get(FILE):
        where = f"{FILE} {os.environ[FILE]}"
        try:
            text = Path(os.environ[FILE]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ExecutorError(f"{where}: the key cannot be read: {error}") from None
    elif not text:
        return None
    if len(text.strip()) < _LEAST:
        raise ExecutorError(f"{where}: a key has {_LEAST} characters or more")
    return text.strip().encode()


def signed(message: Mapping[str, Any], key: bytes | None) -> dict[str, Any]:
    """The message with its signature; without a key as it is."""
    plain = unsigned(message)
    return plain if key is None else {**plain, _SIGNATURE: _of(plain, key)}


def unsigned(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message without its signature."""
    return {name: value for name, value in message.items() if name != _SIGNATURE}


def is_signed(message: Mapping[str, Any], key: bytes | None) -> bool:
    """Whether the message was signed with this key, unchanged; without a key: whatever it is."""
    if key is None:
        return True
    given = message.get(_SIGNATURE)
    right = _of(unsigned(message), key)
    return isinstance(given, str) and hmac.compare_digest(given.encode(), right.encode())


def _of(message: Mapping[str, Any], key: bytes) -> str:
    text = json.dumps(message, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
