"""Host keys as ``known_hosts`` files have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEY_KINDS: Final = ("ssh-", "ecdsa-", "sk-")


def key_lines(text: str) -> Iterator[str]:
    """Keys from lines such as ``ssh-ed25519 AAAA…``, with or without ssh-keyscan's name before."""
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        kinds = [index for index, word in enumerate(words) if word.startswith(_KEY_KINDS)]
        # The ssh provider reads a key without its kind as RSA.
        yield " ".join(words[kinds[0] : kinds[0] + 2]) if kinds else f"ssh-rsa {words[0]}"


def known_keys(file: Path, host: str, port: int) -> tuple[str, ...]:
    """The keys that a file knows for a host; none where there is no file.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    import asyncssh

    if not file.is_file():
        return ()
    try:
        known = asyncssh.read_known_hosts(str(file))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read as known hosts: {error}") from None
    keys = known.match(host, "", port)[0]
    return tuple(key.export_public_key("openssh").decode().strip() for key in keys)
