"""A release's files in a volume: brought, read back, compared.

Files go in and out through a container that is never started, so nothing of an image runs, and none needs a
shell. An engine cannot link files of one volume into another; so all files of a release travel.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from hybrid_provider.artifacts.manifest import Manifest
from hybrid_provider.exceptions import ArtifactRefused, TargetFailed
from hybrid_provider.targets.docker.container import FILES_FOLDER, STAGE_FOLDER, loader_body
from hybrid_provider.targets.docker.engine import EngineRefused
from hybrid_provider.targets.docker.holdings import Role, labels_of, name_of
from hybrid_provider.targets.docker.images import carrier
from hybrid_provider.targets.docker.untar import hashed_files
from hybrid_provider.targets.tarstream import parts_of, tar_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from hybrid_provider.artifacts.manifest import ManifestFile
    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.targets.docker.engine import Engine

MANIFEST: Final = "manifest"
_NAMED: Final = 3


async def bring(
    engine: Engine, release: Release, progress: Callable[[int], None], *, bound: str | None = None
) -> int:
    """Make a release's volume, fill it, read every byte back, and only then its proof.

    Args:
        engine: The engine.
        release: The release.
        progress: Told of bytes that were sent or read.
        bound: A folder of the engine's host that has the files already: the volume is that folder.

    Returns:
        How many bytes were sent.

    Raises:
        TargetFailed: It did not arrive whole, or is not whole there; nothing of it is left, or no proof.
    """
    model, release_id = release.model, release.release_id
    files, proof = name_of(model, Role.RELEASE, release_id), name_of(model, Role.PROOF, release_id)
    await engine.remove(f"/volumes/{proof}")
    # One that is in use keeps its name, and is filled anew.
    await engine.remove(f"/volumes/{files}")
    named = {"release": release_id, "digest": release.digest}
    await make_volume(engine, files, labels_of(model, Role.RELEASE, **named), bound=bound)
    async with loader(engine, model, {FILES_FOLDER: files}, read_only=bound is not None) as container:
        if bound is None:
            await _send(engine, container, release, progress)
        with _explained(engine, release_id, bound):
            await _prove(engine, container, release, progress)
    await make_volume(engine, proof, labels_of(model, Role.PROOF, **named))
    async with loader(engine, model, {f"{STAGE_FOLDER}/{Role.PROOF}": proof}) as container:
        text = release.manifest.text().encode()
        await put(engine, container, f"{STAGE_FOLDER}/{Role.PROOF}", {MANIFEST: text})
    return release.manifest.size_bytes if bound is None else 0


@contextmanager
def _explained(engine: Engine, release_id: str, bound: str | None) -> Iterator[None]:
    """Say of a folder that cannot be mounted, or has other files, who should have brought it."""
    try:
        yield
    except TargetFailed as failure:
        if bound is None:
            raise
        raise TargetFailed(
            engine.name,
            f"release {release_id} is not, whole, in {bound} on the engine's host ({failure.reason}); deploy "
            "it to that host first, or leave bind_from out",
        ) from None


async def changed_files(
    engine: Engine, model: str, release_id: str, digest: str, progress: Callable[[int], None]
) -> tuple[str, ...]:
    """Read a release that is there, and name what is not as its manifest says."""
    proof_folder = f"{STAGE_FOLDER}/{Role.PROOF}"
    mounts = {
        FILES_FOLDER: name_of(model, Role.RELEASE, release_id),
        proof_folder: name_of(model, Role.PROOF, release_id),
    }
    async with loader(engine, model, mounts, read_only=True) as container:
        try:
            files = await read_back(engine, container, FILES_FOLDER, progress)
        except (ArtifactRefused, EngineRefused) as error:
            return (str(error),)
        text = await _manifest_text(engine, container, f"{proof_folder}/{MANIFEST}")
    if hashlib.sha256(text).hexdigest() != digest:
        # A crash right after the proof was made leaves it empty; the files themselves can still be proven.
        return () if _digest(files) == digest else (MANIFEST,)
    return differences(Manifest.parse(text.decode()), files)


def differences(manifest: Manifest, found: Sequence[ManifestFile]) -> tuple[str, ...]:
    """The paths of files that are missing, changed or too many."""
    different = {*manifest.files} ^ {*found}
    return tuple(sorted({file.path for file in different}))


@asynccontextmanager
async def loader(
    engine: Engine, model: str, mounts: dict[str, str], *, read_only: bool = False
) -> AsyncIterator[str]:
    """A container that is never started, with volumes to put files into or to read them from."""
    body = loader_body(model, await carrier(engine), mounts, read_only=read_only)
    container = str((await engine.ask("POST", "/containers/create", body))["Id"])
    try:
        yield container
    finally:
        await engine.remove(f"/containers/{container}", {"force": "1"})


async def make_volume(
    engine: Engine, name: str, labels: dict[str, str], *, bound: str | None = None
) -> dict[str, str]:
    """Make a volume, or find that it is there already; the labels that it has.

    One that is ``bound`` is a folder of the engine's host; removing it leaves the folder as it is.
    """
    body: dict[str, object] = {"Name": name, "Labels": labels}
    if bound is not None:
        body["DriverOpts"] = {"type": "none", "o": "bind", "device": bound}
    await engine.ask("POST", "/volumes/create", body)
    made = await engine.ask("GET", f"/volumes/{name}")
    return dict(made.get("Labels") or {})


async def put(engine: Engine, container: str, folder: str, files: dict[str, bytes]) -> None:
    """Put small files into a folder of a container."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode, member.mtime = len(text), 0o644, 1
            archive.addfile(member, io.BytesIO(text))
    query = {"path": folder}
    path = f"/containers/{container}/archive"
    async with engine.stream("PUT", path, body=content.getvalue(), query=query):
        pass


async def read_back(
    engine: Engine, container: str, folder: str, progress: Callable[[int], None]
) -> tuple[ManifestFile, ...]:
    """Every file under a folder of a container, hashed as it is read.

    Raises:
        ArtifactRefused: There is more than files and folders.
    """
    path = f"/containers/{container}/archive"
    async with engine.stream("GET", path, query={"path": f"{folder}/."}) as answer:
        return await hashed_files(answer.aiter_bytes(), progress)


async def _send(engine: Engine, container: str, release: Release, progress: Callable[[int], None]) -> None:
    parts = parts_of(release.manifest, None, None)
    stream = tar_stream(release.path, release.manifest, parts, progress)
    path, query = f"/containers/{container}/archive", {"path": STAGE_FOLDER}
    try:
        async with engine.stream("PUT", path, body=stream, query=query):
            pass
    except OSError as error:
        raise TargetFailed(engine.name, f"the release cannot be read on this worker: {error}") from None


async def _prove(engine: Engine, container: str, release: Release, progress: Callable[[int], None]) -> None:
    try:
        changed = differences(release.manifest, await read_back(engine, container, FILES_FOLDER, progress))
    except ArtifactRefused as error:
        raise TargetFailed(engine.name, f"unproven after it was sent: {error}") from None
    if changed:
        raise TargetFailed(engine.name, f"unproven after it was sent: {', '.join(changed[:_NAMED])}")


async def _manifest_text(engine: Engine, container: str, path: str) -> bytes:
    try:
        content = await engine.read(f"/containers/{container}/archive", {"path": path})
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            file = archive.extractfile(archive.next() or tarfile.TarInfo())
            return file.read() if file else b""
    except (TargetFailed, tarfile.TarError, KeyError):
        return b""


def _digest(files: Sequence[ManifestFile]) -> str:
    try:
        return Manifest.of(files).digest
    except ArtifactRefused:
        return ""
