"""Runs one command as a container would: when it ends, everything that it started ends.

The emulator runs every program through this one, and holds the write end of its standard input::

    python -I -S warden.py GRACE_SECONDS COMMAND [ARGUMENT ...]

- The command gets a session of its own; SIGTERM and SIGINT are passed on to its process group.
- A process that leaves the session (``setsid``, a double fork) becomes a child of the warden, not of init,
  so that it lives as long as the command does and can be found afterwards.
- When standard input reaches its end, because the emulator is gone, however it went, every process is
  asked to end (SIGTERM), and killed after the grace. SIGUSR1 does the same: a process that was forked from
  the emulator may hold the input open.
- When the command ends by itself, what it left behind is killed at once. When it ends after a signal was
  passed on, the rest of its group, which was asked to end too, is waited for: a script may save though its
  starter died.

It imports the standard library only, and little of it: there is one warden for each command.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36
_STDIN = 0
_NOT_FOUND = 127  # as a shell says it


def main(grace_seconds: float, command: list[str]) -> int:
    """Run ``command`` and return its exit status, 128 + n for one that signal n ended."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    told_to_end: list[int] = []
    asked: list[int] = []
    wakeup = _wakeup_on_signals()
    signal.signal(signal.SIGUSR1, lambda number, _: told_to_end.append(number))
    # Held back until the child is known; without it, one that comes now would leave the child behind.
    passed_on = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
    try:
        child = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            setsid=True,
            setsigmask=[],
            # The last two are Python's to ignore, not the command's.
            setsigdef=[signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ],
            file_actions=[(os.POSIX_SPAWN_OPEN, _STDIN, os.devnull, os.O_RDONLY, 0)],
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return _NOT_FOUND

    def pass_on(number: int, _: object) -> None:
        asked.append(number)
        _signal_group(child, number)

    for number in passed_on:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)

    status = _wait(child, wakeup, told_to_end)
    if status is None or (asked and not _group_ended(child, wakeup, told_to_end)):
        ended = _end_all(child, signal.SIGTERM, grace_seconds)
        status = ended if status is None else status
    killed = _end_all(child, signal.SIGKILL, None)
    return next((code for code in (status, killed) if code is not None), 128 + signal.SIGKILL)


def _wakeup_on_signals() -> int:
    """A file descriptor that becomes readable with every signal; without it one could be missed."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return readable


def _wait(child: int, wakeup: int, told_to_end: list[int]) -> int | None:
    """The child's exit status, or None once everything is to end."""
    while True:
        status = _reap(child)
        if status is not None:
            return status
        if told_to_end or not _woken(wakeup):
            return None


def _group_ended(leader: int, wakeup: int, told_to_end: list[int]) -> bool:
    """Whether the rest of the child's process group ended by itself, before everything is to end."""
    while True:
        _reap(leader)
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return True
        if told_to_end or not _woken(wakeup):
            return False


def _woken(wakeup: int) -> bool:
    """Wait for a signal; False where standard input reached its end."""
    readable, _, _ = select.select([_STDIN, wakeup], [], [])
    if wakeup in readable:
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)
    return _STDIN not in readable or bool(os.read(_STDIN, 4096))


def _reap(child: int) -> int | None:
    """Collect all that ended, adopted ones too; the child's exit status if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                found = code if code >= 0 else 128 - code
    return found


def _end_all(child: int, number: int, seconds: float | None) -> int | None:
    """Signal all descendants and reap them, for at most ``seconds``; the child's exit status if it ended.

    One that is forked meanwhile is met in the next round: its parent is gone, so that it is ours.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    found = None
    signalled: set[int] = set()
    while True:
        status = _reap(child)
        found = status if status is not None else found
        alive = _descendants(os.getpid())
        if not alive or (deadline is not None and time.monotonic() > deadline):
            return found
        for pid in alive - signalled:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            if number != signal.SIGKILL:
                signalled.add(pid)
        time.sleep(0.005)


def _descendants(root: int) -> set[int]:
    """The pids of all living processes below ``root``."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs each warden 10 ms
        if name.isdigit():
            # A process may end between the listing and the reading.
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                fields = stat.read().rpartition(b") ")[2].split()
                if fields[0] != b"Z":
                    children.setdefault(int(fields[1]), []).append(int(name))
    found: set[int] = set()
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found.update(below)
        todo.extend(below)
    return found


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
