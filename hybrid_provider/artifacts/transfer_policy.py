"""How objects are read: how much at once, how patiently, and how fast at most."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import RetryConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPolicy:
    """How objects are read.

    Attributes:
        part_bytes: Size of one ranged request; S3's own guidance is 8 to 16 MB. A part that comes slowly, or
            under a limit, is asked for in pieces of 1 MiB.
        parts_in_flight: Parts that are asked for at once, at most: it begins with two, and asks for one more
            each time it waits. 6 bring 500 MB/s at S3's usual 85 to 90 MB/s per request, which is faster than
            gzip unpacks, and with those being handed on hold 128 MiB. Of small objects, which count together
            as one part, four times as many are asked for at once.
        attempts: Tries of one part before the transfer fails; AWS's SDKs use 3 to 5.
        first_pause: Before the second try; doubles with each further one, with jitter.
        part_timeout: For one request; 16 MiB in 10 minutes is 28 kB/s.
        stall_timeout: Without a byte.
        resumable_from: A transfer of one object that takes so long keeps its parts on the disk until the end,
            so that a sync that was cut short goes on; a shorter one is begun anew rather than written twice.
        max_bytes_per_second: Of all requests together, on average; None for as fast as they come.
    """

    part_bytes: int = 16 << 20
    parts_in_flight: int = 6
    attempts: int = 5
    first_pause: timedelta = timedelta(milliseconds=250)
    part_timeout: timedelta = timedelta(minutes=10)
    stall_timeout: timedelta = timedelta(seconds=30)
    resumable_from: timedelta = timedelta(minutes=1)
    max_bytes_per_second: int | None = None

    def __post_init__(self) -> None:
        if self.max_bytes_per_second is not None and self.max_bytes_per_second <= 0:
            raise ConfigurationError(
                f"max_bytes_per_second is {self.max_bytes_per_second}; give a number above 0, or None"
            )

    @property
    def request_timeout(self) -> timedelta:
        """For one request, with what it waits for the others under the limit.

        Those before it, and as many that are asked for until it is next.
        """
        if self.max_bytes_per_second is None:
            return self.part_timeout
        others_bytes = 2 * self.part_bytes * self.parts_in_flight
        return self.part_timeout + timedelta(seconds=others_bytes / self.max_bytes_per_second)

    @property
    def within_obstore(self) -> RetryConfig:
        """What obstore tries again by itself; parts are tried again by us, where errors are understood."""
        return {
            "max_retries": 2,
            "retry_timeout": self.request_timeout,
            "backoff": {"init_backoff": self.first_pause, "max_backoff": self.request_timeout, "base": 2},
        }
