"""Where objects lie, and what they were at one moment."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.exceptions import (
    ArtifactChanged,
    ArtifactNotFound,
    ArtifactRefused,
    ConfigurationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
MAX_LISTED = 1_000_000
"""Objects under one prefix: they are held in memory, with about 500 bytes for each and its key."""
MAX_KEYS_BYTES = 256 << 20
"""Of all of them."""
SCHEMES = ("s3", "gs", "az", "abfs", "file")


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket, and an object's key or a prefix that ends in ``/``.

    Attributes:
        bucket: Its name; of Azure the container, for ``abfs`` perhaps with ``@`` and the account's host; of
            this machine's files nothing.
        key: Without a ``/`` before it.
        scheme: One of :data:`SCHEMES`.
    """

    bucket: str
    key: str
    scheme: str = "s3"

    @classmethod
    def parse(cls, uri: str) -> Location:
        """Read a URI of any of the schemes.

        Raises:
            ConfigurationError: It is something else, or names no more than a bucket.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme == "s3" and not _BUCKET.fullmatch(bucket):
            scheme = ""
        if scheme not in SCHEMES or bool(bucket) is (scheme == "file") or not key.strip("/"):
            raise ConfigurationError(
                f"artifact URI {uri!r}: give an object (s3://bucket/path/model.tar.gz, or gs://, az://, "
                "abfs://, file:///path) or a prefix of objects (with a / at its end)"
            )
        return cls(bucket, key, scheme)

    def __str__(self) -> str:
        """The URI."""
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def is_prefix(self) -> bool:
        """Whether this names all objects under a prefix rather than one object."""
        return self.key.endswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object at one moment; ``etag`` is without quotes."""

    location: Location
    size_bytes: int
    etag: str
    version_id: str | None
    last_modified: datetime

    def changed(self) -> ArtifactChanged:
        """The error that another object is where this one was."""
        return ArtifactChanged(
            f"{self.location} was replaced while it was being read (it is no longer ETag {self.etag}, "
            f"{self.size_bytes} bytes); run again to take the new one"
        )


def no_more_than_fit(location: Location, objects: Iterable[StoredObject]) -> Iterator[StoredObject]:
    """The same objects of a listing of ``location``.

    Raises:
        ArtifactRefused: There are more than :data:`MAX_LISTED`, or their keys are longer than
            :data:`MAX_KEYS_BYTES`; no more of the listing is asked for.
    """
    keys_bytes = 0
    for count, item in enumerate(objects, start=1):
        keys_bytes += len(item.location.key.encode())
        if count > MAX_LISTED or keys_bytes > MAX_KEYS_BYTES:
            raise ArtifactRefused(
                f"{location} holds more than {MAX_LISTED} objects, or more than {MAX_KEYS_BYTES} bytes "
                "of keys; give a prefix with fewer below it"
            )
        yield item


def artifact_of(location: Location, objects: Sequence[StoredObject]) -> Artifact:
    """The artifact that ``objects``, one or more, are; ArtifactNotFound if all are empty."""
    size_bytes = sum(item.size_bytes for item in objects)
    if size_bytes == 0:
        raise ArtifactNotFound(
            f"{location} is empty; the training script must write its model to SM_MODEL_DIR before it ends"
        )
    if location.is_prefix:
        lines = "".join(f"{item.etag} {item.size_bytes} {item.location.key}\n" for item in objects)
        etag, version_id = hashlib.sha256(lines.encode()).hexdigest(), None
    else:
        etag, version_id = objects[0].etag, objects[0].version_id
    return Artifact(
        uri=str(location),
        size_bytes=size_bytes,
        etag=etag,
        version_id=version_id,
        last_modified=max(item.last_modified for item in objects),
    )
