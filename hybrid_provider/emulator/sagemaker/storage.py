"""What a training job moves in and out of S3."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The archive is made to be read once or twice, over a loopback.
_GZIP_LEVEL: Final = 1


class UploadFailed(Exception):
    """An object could not be written; boto3's transfers have an exception of their own for it."""


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
    """Bring all objects below ``uri`` into ``folder``, as :func:`channel_names` names them."""
    bucket, prefix = split_uri(uri)
    folder.mkdir(parents=True, exist_ok=True)
    for key, name in channel_names(prefix, list(list_keys(client, uri))).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, key, str(file))


def channel_names(prefix: str, keys: Sequence[str]) -> dict[str, str]:
    """The file name in the channel of each key.

    A prefix that ends in ``/``, or could, is a folder: names begin after it. Any other is the beginning of
    names: they begin after its last ``/``. Keys that end in ``/`` are consoles' empty folders.
    """
    folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    if not any(key.startswith(folder) for key in keys):
        folder = prefix[: prefix.rfind("/") + 1]
    names = {key: key.removeprefix(folder) for key in keys if key.startswith(folder)}
    return {key: name for key, name in names.items() if name and not name.endswith("/")}


def upload_checkpoints(client: Any, folder: Path, uri: str) -> None:  # noqa: ANN401 - a boto3 client
    """Bring all files of ``folder`` below ``uri``."""
    bucket, prefix = split_uri(f"{uri.rstrip('/')}/")
    for name, file in _merged([folder]).items():
        _upload(client, file, bucket, prefix + name)


def upload_model(client: Any, folders: Sequence[Path], request: dict[str, Any]) -> str:  # noqa: ANN401 - a boto3 client
    """Upload the instances' model folders as one and return where it is; from empty ones, nothing.

    One ``model.tar.gz`` with the files at its root, or with ``CompressionType: NONE`` the files themselves.
    The URI is returned in any case, as the service does.
    """
    base = _output_base(request)
    files = _merged(folders)
    if request["OutputDataConfig"].get("CompressionType") == "NONE":
        uri = f"{base}/model/"
        bucket, prefix = split_uri(uri)
        for name, file in files.items():
            _upload(client, file, bucket, prefix + name)
        return uri
    uri = f"{base}/model.tar.gz"
    _upload_archive(client, files, uri)
    return uri


def upload_output(client: Any, folders: Sequence[Path], request: dict[str, Any]) -> None:  # noqa: ANN401 - a boto3 client
    """Upload what the script left in ``output/data`` beside the model, as ``output.tar.gz``."""
    _upload_archive(client, _merged(folders), f"{_output_base(request)}/output.tar.gz")


def _output_base(request: dict[str, Any]) -> str:
    return f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/output"


def _merged(folders: Sequence[Path]) -> dict[str, Path]:
    """The files of all folders by name; of one that several have, the first counts."""
    files: dict[str, Path] = {}
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            files.setdefault(file.relative_to(folder).as_posix(), file)
    return files


def _upload_archive(client: Any, files: dict[str, Path], uri: str) -> None:  # noqa: ANN401 - a boto3 client
    if not files:
        return
    bucket, key = split_uri(uri)
    first = next(iter(files.values()))
    with tempfile.NamedTemporaryFile(dir=first.parent, prefix=".", suffix=".tar.gz") as archive:
        with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=_GZIP_LEVEL) as tar:
            for name, file in files.items():
                tar.add(file, arcname=name)
        archive.flush()
        _upload(client, Path(archive.name), bucket, key)


def _upload(client: Any, file: Path, bucket: str, key: str) -> None:  # noqa: ANN401 - a boto3 client
    try:
        client.upload_file(str(file), bucket, key)
    except Boto3Error as error:
        raise UploadFailed(str(error)) from error
