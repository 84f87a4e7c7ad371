"""An engine's socket on another host as one of this machine, over SSH with the host key enforced."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import TargetUnreachable
from hybrid_provider.targets.ssh_login import connect

if TYPE_CHECKING:
    import asyncssh

    from hybrid_provider.targets.ssh import SshAddress


@dataclass(frozen=True)
class Tunnel:
    """A local socket whose other end is a remote one.

    Attributes:
        socket: The local one, in a folder that only this user may enter.
    """

    socket: Path
    _connection: asyncssh.SSHClientConnection

    @classmethod
    async def opened(cls, name: str, address: SshAddress, remote: str) -> Tunnel:
        """Connect, and listen.

        Raises:
            TargetUnreachable: Nothing answers there.
            TargetRefused: The host key is not the known one, or the host does not let us in.
        """
        import asyncssh

        connection = await connect(name, address)
        folder = Path(tempfile.mkdtemp(prefix="hybrid-engine-"))
        try:
            await connection.forward_local_path(str(folder / "sock"), remote)
        except (asyncssh.Error, OSError) as error:
            connection.abort()
            shutil.rmtree(folder, ignore_errors=True)
            raise TargetUnreachable(name, f"cannot listen at {folder}: {error}") from None
        return cls(folder / "sock", connection)

    @property
    def open(self) -> bool:
        """Whether the connection is still there, as far as is known."""
        return not self._connection.is_closed()

    async def close(self) -> None:
        """End the connection, and the socket with it."""
        self._connection.close()
        with contextlib.suppress(OSError):
            await self._connection.wait_closed()
        shutil.rmtree(self.socket.parent, ignore_errors=True)
