"""One command on an emulated host: an SSH channel on one side, a process on the other."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from typing import TYPE_CHECKING, Final

import asyncssh

if TYPE_CHECKING:
    from collections.abc import Mapping

# Several packets in flight keep a tar stream at the speed of the cipher.
PACKET_BYTES: Final = 256 * 1024
WINDOW_BYTES: Final = 16 * PACKET_BYTES
# A pipe's default of 64 KiB costs four turns of the event loop for each packet; this is a user's limit.
_PIPE_BYTES: Final = 1024 * 1024
_STDIN, _STDOUT, _STDERR = 0, 1, 2
_NOT_STARTED: Final = 254


class CommandSession(asyncssh.SSHServerSession[bytes]):
    """Runs the command that the client asks for, and passes its streams, its signals and its end."""

    def __init__(self, *, folder: str, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._command = ""
        self._process: _CommandProcess | None = None
        self._starting: asyncio.Task[None] | None = None
        # What comes before the process is there: asyncssh starts to read by itself.
        self._early_input: list[bytes] = []
        self._input_ended = False

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Remember the channel."""
        self._channel = chan

    def shell_requested(self) -> bool:
        """There is no interactive shell."""
        return False

    def exec_requested(self, command: str) -> bool:
        """Every command is taken."""
        self._command = command
        return True

    def session_started(self) -> None:
        """Start the command."""
        if self._channel is not None:
            self._starting = asyncio.get_running_loop().create_task(self._start(self._channel))

    async def _start(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        channel.pause_reading()
        process = _CommandProcess(channel)
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: process,
                "/bin/sh",
                "-c",
                self._command,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            channel.write(f"cannot start the command: {error}\n".encode(), asyncssh.EXTENDED_DATA_STDERR)
            channel.exit(_NOT_STARTED)
            return
        self._process = process
        if channel.is_closing():
            process.let_go()
            return
        process.write(b"".join(self._early_input))
        self._early_input.clear()
        channel.resume_reading()
        if self._input_ended:
            process.end_input()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Pass input on; the process's buffer tells the channel when it has enough."""
        if datatype is not None:
            return
        if self._process is None:
            self._early_input.append(data)
        else:
            self._process.write(data)

    def eof_received(self) -> bool:
        """End the command's input; its output goes on. An end is told even while reading is paused."""
        self._input_ended = True
        if self._process is not None:
            self._process.end_input()
        return True

    def signal_received(self, signal: str) -> None:
        """Pass a signal on to the command's process group."""
        if self._process is not None:
            self._process.send_signal(signal)

    def pause_writing(self) -> None:
        """The client does not read fast enough."""
        if self._process is not None:
            self._process.pause_output()

    def resume_writing(self) -> None:
        """The client has read what was written."""
        if self._process is not None:
            self._process.resume_output()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        """Leave the command alone, without its input and its output."""
        if self._process is not None:
            self._process.let_go()


class _CommandProcess(asyncio.SubprocessProtocol):
    """The process side: started by the event loop, told of its output and its end."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = channel
        self._transport: asyncio.SubprocessTransport | None = None
        self._open_outputs = {_STDOUT, _STDERR}
        self._exited = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # asyncio promises a SubprocessTransport
        for number in (_STDIN, _STDOUT, _STDERR):
            pipe = self._pipe(number)
            if isinstance(pipe, asyncio.WriteTransport):
                pipe.set_write_buffer_limits(high=WINDOW_BYTES // 4)
            if pipe is not None:
                # Refused only where a user's total is used up; the pipe is then as large as it was.
                with contextlib.suppress(OSError):
                    fcntl.fcntl(pipe.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    # Client to command.

    def write(self, data: bytes) -> None:
        pipe = self._pipe(_STDIN)
        if isinstance(pipe, asyncio.WriteTransport) and not pipe.is_closing():
            pipe.write(data)

    def end_input(self) -> None:
        pipe = self._pipe(_STDIN)
        if pipe is not None:
            pipe.close()

    def pause_writing(self) -> None:
        self._channel.pause_reading()

    def resume_writing(self) -> None:
        # Not at once: this is called from within a write, and an end of the input that is told there
        # makes asyncio drop what is still in its buffer.
        asyncio.get_running_loop().call_soon(self._channel.resume_reading)

    def send_signal(self, name: str) -> None:
        number = getattr(signal, f"SIG{name}", None)
        if number is not None and self._transport is not None and not self._exited:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._transport.get_pid(), number)

    # Command to client.

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if not self._channel.is_closing():
            self._channel.write(data, asyncssh.EXTENDED_DATA_STDERR if fd == _STDERR else None)

    def pause_output(self) -> None:
        for number in self._open_outputs:
            pipe = self._pipe(number)
            if isinstance(pipe, asyncio.ReadTransport):
                pipe.pause_reading()

    def resume_output(self) -> None:
        for number in self._open_outputs:
            pipe = self._pipe(number)
            if isinstance(pipe, asyncio.ReadTransport):
                pipe.resume_reading()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if fd == _STDIN:
            # Nothing reads the input any more; what the client still sends is taken and dropped.
            self._channel.resume_reading()
        self._open_outputs.discard(fd)
        self._report()

    def process_exited(self) -> None:
        self._exited = True
        self._report()

    def let_go(self) -> None:
        for number in (_STDIN, _STDOUT, _STDERR):
            pipe = self._pipe(number)
            if pipe is not None:
                pipe.close()

    def _report(self) -> None:
        """Tell the client how the command ended, once it has ended and all of its output was read."""
        if not self._exited or self._open_outputs or self._transport is None or self._channel.is_closing():
            return
        status = self._transport.get_returncode() or 0
        if status < 0:
            self._channel.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            self._channel.exit(status)
        # Not before the process has ended: closing the transport would kill it.
        self._transport.close()

    def _pipe(self, number: int) -> asyncio.BaseTransport | None:
        return None if self._transport is None else self._transport.get_pipe_transport(number)
