"""Where objects lie, and what they were at one moment."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.exceptions import ArtifactChanged, ArtifactNotFound, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
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
