"""What a training job moves in and out of S3."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GZIP_LEVEL: Final = 1  # the artifact is made to be read once, on a loopback


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key, or prefix, of an ``s3://`` URI."""
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/")


def list_keys(client: Any, uri: str) -> Iterator[str]:  # noqa: ANN401 - a boto3 client
    """All keys that begin with the URI's, as the service reads ``S3Prefix``."""
    bucket, prefix = split_uri(uri)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            yield item["Key"]


def download_channel(client: Any, uri: str, folder: Path) -> None:  # noqa: ANN401 - a boto3 client
    """Bring all objects below ``uri`` into ``folder``, named from the prefix's last ``/`` on."""
    bucket, prefix = split_uri(uri)
    folder.mkdir(parents=True, exist_ok=True)
    base = prefix if prefix.endswith("/") else prefix.rpartition("/")[0] + "/"
    keys = list(list_keys(client, uri))
    if not prefix.endswith("/") and any(key.startswith(f"{prefix}/") for key in keys):
        base = f"{prefix}/"
    for key in keys:
        name = key.removeprefix(base.lstrip("/"))
        if name and not name.endswith("/"):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, key, str(file))


def upload_model(client: Any, folder: Path, request: dict[str, Any]) -> str:  # noqa: ANN401 - a boto3 client
    """Upload the model folder and return where it is; nothing is uploaded from an empty one.

    One ``model.tar.gz`` with the files at its root, or with ``CompressionType: NONE`` the files themselves.
    """
    output = request["OutputDataConfig"]
    base = f"{output['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/output"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if output.get("CompressionType") == "NONE":
        uri = f"{base}/model/"
        bucket, prefix = split_uri(uri)
        for file in files:
            client.upload_file(str(file), bucket, prefix + file.relative_to(folder).as_posix())
        return uri
    uri = f"{base}/model.tar.gz"
    if files:
        bucket, key = split_uri(uri)
        archive = folder.parent / "model.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=_GZIP_LEVEL) as tar:
            for file in files:
                tar.add(file, arcname=file.relative_to(folder).as_posix())
        client.upload_file(str(archive), bucket, key)
        archive.unlink()
    return uri
