"""The grammar of a release's file names: what it does not allow is refused.

::

    path       = component *( "/" component )     at most 1,024 bytes of UTF-8, in Unicode's NFC form
    component  = first *( first / other )         at most 255 bytes; ends with no "." and no space,
                                                  and is no device of Windows (con, nul.txt)
    first      = letter / number / one of ! # $ % & ' ( ) + , . = @ [ ] ^ _ { }
    other      = mark / one of - ~ and space

Letters, numbers and marks are those of any script (Unicode's categories L, N and M) of which something is to
be seen. A name of the grammar is held as it is by each file system that a host may have (exFAT and a share of
Windows too), is no option and no home for a shell, and leads nowhere but down. Two names of one release that
such a file system may take for one are refused, see :class:`TakenNames`.
"""

from __future__ import annotations

import re
import unicodedata

from hybrid_provider.exceptions import ArtifactRefused

MAX_PATH_BYTES = 1024
MAX_COMPONENT_BYTES = 255
MAX_NAMES_BYTES = 32 << 20
"""Of all files of a release and their folders, which are held in memory: 335 for each of 100,000."""
PUNCTUATION = "!#$%&'()+,-.=@[]^_{}~"
_NOT_FIRST = "-~ "
_NOT_LAST = ". "
_SHOWN_CHARACTERS = 120
# Most names are of these alone, and thousands are read at once; the others are looked at one by one.
_ASCII = re.compile(rf"[A-Za-z0-9 /{re.escape(PUNCTUATION)}]*")
_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "No"})
# Letters and marks by their category, that nothing is drawn for (Unicode's Default_Ignorable_Code_Point).
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE)


def shown(path: str | None) -> str:
    """A name from outside for a message: quoted, escaped and of bounded length."""
    text = str(path)
    return repr(text) if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]!r}…"


def checked_path(path: str) -> str:
    """Return a file's path inside a release unchanged if it is of the grammar.

    Raises:
        ArtifactRefused: It is not; the message names it, and what in it is not allowed.
    """
    if len(path) > MAX_PATH_BYTES:
        raise _too_long(path)
    if not _ASCII.fullmatch(path):
        _check_characters(path)
    components = path.split("/")
    for component in components:
        _check_component(path, component)
    if len(path.encode()) > MAX_PATH_BYTES or any(len(c.encode()) > MAX_COMPONENT_BYTES for c in components):
        raise _too_long(path)
    return path


def _check_characters(path: str) -> None:
    for character in path:
        if not (_ASCII.fullmatch(character) or _is_visible_word(character)):
            raise ArtifactRefused(
                f"file name {shown(path)} holds {character!a}; allowed are letters, marks and numbers of any "
                f"script, space and {PUNCTUATION}: rename it in the training script"
            )
    if path != unicodedata.normalize("NFC", path):
        raise ArtifactRefused(
            f"file name {shown(path)} is not in Unicode's NFC form; rename it in the training script"
        )


def _is_visible_word(character: str) -> bool:
    # Of a character that is not assigned yet (Cn), a later Unicode may say that its normal form is another.
    is_word = not character.isascii() and unicodedata.category(character) in _CATEGORIES
    return is_word and not _INVISIBLE.match(character)


def _check_component(path: str, component: str) -> None:
    if component in {"", ".", ".."}:
        raise ArtifactRefused(f"file name {shown(path)} is absolute or not a plain relative path")
    if component[0] in _NOT_FIRST or unicodedata.category(component[0]).startswith("M"):
        raise _misplaced(path, f"a part of it begins with {component[0]!a}")
    if component[-1] in _NOT_LAST:
        raise _misplaced(path, f"a part of it ends with {component[-1]!a}")
    if _DEVICE.fullmatch(component):
        raise _misplaced(path, f"{component} is a device of Windows, not a file")


def _misplaced(path: str, why: str) -> ArtifactRefused:
    return ArtifactRefused(f"file name {shown(path)}: {why}; rename it in the training script")


def _too_long(path: str) -> ArtifactRefused:
    return ArtifactRefused(f"file name {shown(path)} is longer than a host's file system can hold")


class TakenNames:
    """The files of one release and their folders, as a file system that folds case sees them."""

    def __init__(self) -> None:
        self._folders: set[str] = set()
        self._spelled: dict[str, str] = {}
        self._bytes = 0

    def take(self, path: str) -> None:
        """Take the name of one more file, which :func:`checked_path` has let pass.

        Raises:
            ArtifactRefused: It is taken, or it or one of its folders differs from another by case alone, or
                is a file here and a folder there; or all together are longer than :data:`MAX_NAMES_BYTES`.
        """
        self._count(path)
        self._take_folder(path, path.rpartition("/")[0])
        folded = _folded(path)
        if folded in self._spelled:
            raise ArtifactRefused(
                f"file name {shown(path)} is there twice, or differs from another only by case"
            )
        self._spelled[folded] = path

    def _take_folder(self, path: str, folder: str) -> None:
        if not folder or folder in self._folders:
            return
        self._count(folder)
        self._take_folder(path, folder.rpartition("/")[0])
        folded = _folded(folder)
        spelled = self._spelled.get(folded)
        if spelled in self._folders:
            raise ArtifactRefused(
                f"file name {shown(path)}: its folder {shown(folder)} and another, {shown(spelled)}, differ "
                "only by case; rename one in the training script"
            )
        if spelled is not None:
            raise ArtifactRefused(f"file name {shown(path)} lies in a folder that is itself a file")
        self._spelled[folded] = folder
        self._folders.add(folder)

    def _count(self, path: str) -> None:
        self._bytes += len(path.encode())
        if self._bytes > MAX_NAMES_BYTES:
            raise ArtifactRefused(
                f"name {shown(path)}: with it, the names of the release's files and folders have more than "
                f"{MAX_NAMES_BYTES} bytes; shorten them, or pack small files together in the training script"
            )


def _folded(path: str) -> str:
    """Unicode's canonical caseless form: equal for all names that differ by case alone."""
    if path.isascii():
        # Most names are so already; thousands of them need no copy.
        return path if path.islower() else path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
