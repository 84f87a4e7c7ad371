"""Tells a pickle by its opcodes, without ever loading one.

A pickle is a small program: importing and calling whatever it names is what it is for. A file is one if
Python's own unpickler would follow it to its end, or to its first call. The walk keeps count of the stack as
the unpickler does, so that a text which happens to begin with an opcode's letter is not taken for one.
"""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pickletools import OpcodeInfo

MAX_OPCODES = 200_000
"""What reads as a pickle for so long is called one."""
# No module's or function's name is longer; any other line may be of any length.
_MAX_NAME_BYTES = 4096
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_MAX_PROTOCOL = 5
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_CALLS = frozenset({"REDUCE", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
_NAMES_BY_TEXT = frozenset({"GLOBAL", "INST"})


class Opcodes(Protocol):
    """What is walked over: bytes from the beginning of a file."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, fewer at the end."""

    def skip(self, size: int, /) -> bool:
        """Pass over bytes; False where there are fewer.

        Raises:
            LookedLongEnough: More was read than is worth it.
        """

    def skip_line(self) -> bool:
        """Pass over a line, however long it is; False where it has no end. Errors as of :meth:`skip`."""


class LookedLongEnough(Exception):
    """All that was read so far is a pickle, and no more is read."""


class _NoPickle(Exception):
    """The unpickler would stop here with an error, and has called nothing."""


def is_pickle(opcodes: Opcodes) -> bool:
    """Whether loading the file as a pickle would import or call something, or give an object."""
    walk = _Walk(opcodes)
    try:
        for _ in range(MAX_OPCODES):
            if walk.step():
                return walk.names or walk.protocol
    except _NoPickle:
        return False
    except LookedLongEnough:
        pass
    return True


class _Walk:
    """The unpickler's stack, as its depth and the depths of its marks."""

    def __init__(self, opcodes: Opcodes) -> None:
        self._opcodes = opcodes
        self._depth = 0
        self._marks: list[int] = []
        self._first = True
        self.names = False
        self.protocol = False

    def step(self) -> bool:
        """Take one opcode; whether it ends the pickle, or calls something."""
        code = self._opcodes.read(1)
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise _NoPickle
        self._take_argument(opcode)
        self._move_stack(opcode)
        self._first = False
        return opcode.name == "STOP" or (opcode.name in _CALLS and self.names) or opcode.name == "INST"

    def _take_argument(self, opcode: OpcodeInfo) -> None:
        if opcode.name == "PROTO":
            version = self._opcodes.read(1)
            if not version or version[0] > _MAX_PROTOCOL:
                raise _NoPickle
            self.protocol = self.protocol or self._first
        elif opcode.name in _NAMES_BY_TEXT:
            for line in (self._name(), self._name()):
                if not all(part.isidentifier() for part in line.split(".")):
                    raise _NoPickle
            self.names = True
        elif opcode.name == "STACK_GLOBAL":
            self.names = True
        elif opcode.arg is not None:
            self._pass_over(opcode.arg.n)

    def _pass_over(self, size: int) -> None:
        if size == pickletools.UP_TO_NEWLINE:
            if not self._opcodes.skip_line():
                raise _NoPickle
            return
        if size < 0:
            prefix = self._opcodes.read(_LENGTH_BYTES[size])
            if len(prefix) < _LENGTH_BYTES[size]:
                raise _NoPickle
            size = int.from_bytes(prefix, "little")
        if not self._opcodes.skip(size):
            raise _NoPickle

    def _name(self) -> str:
        line = bytearray()
        while not line.endswith(b"\n"):
            character = self._opcodes.read(1)
            if not character or len(line) > _MAX_NAME_BYTES:
                raise _NoPickle
            line += character
        return line[:-1].decode("utf-8", errors="replace")

    def _move_stack(self, opcode: OpcodeInfo) -> None:
        needed = list(opcode.stack_before)
        if opcode.name == "POP" and self._marks and self._marks[-1] == self._depth:
            self._marks.pop()  # the one opcode that takes a mark for an object
            return
        if pickletools.markobject in needed:
            if not self._marks:
                raise _NoPickle
            needed = needed[: needed.index(pickletools.markobject)]
            self._depth = self._marks.pop()
        floor = self._marks[-1] if self._marks else 0
        if self._depth - len(needed) < floor:
            raise _NoPickle
        self._depth -= len(needed)
        if opcode.name == "MARK":
            self._marks.append(self._depth)
        else:
            self._depth += len(opcode.stack_after)
