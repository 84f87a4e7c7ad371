"""Whether files become a release: the policy's last word, spoken over the staged and hashed files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.folder import make_folder, store_errors_explained, write_small_file
from hybrid_provider.artifacts.signature import (
    MAX_SIGNATURE_BYTES,
    SIGNATURE_NAME,
    Signed,
    load_public_key,
    verify,
)
from hybrid_provider.exceptions import ArtifactRefused, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hybrid_provider.artifacts.manifest import Manifest
    from hybrid_provider.artifacts.policy import ArtifactPolicy
    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.artifacts.store import ReleaseStore

_LAST_SIGNED = "last-signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Files that may become a release.

    Attributes:
        signature: The signature to keep beside it; None where it is one of the files, or none is asked for.
        signed: What it says.
    """

    signature: str | None = None
    signed: Signed | None = None

    def facts(self) -> dict[str, object]:
        """For the release's provenance."""
        if self.signed is None:
            return {}
        when = self.signed.signed
        return {"signature": {"key": self.signed.key, "signed": when.isoformat() if when else None}}


@dataclass(frozen=True, slots=True)
class Admission:
    """One policy over one model's files.

    Attributes:
        policy: The rules.
        store: Remembers the last signature that was accepted.
        model: The model's name.
        beside: Reads the signature that lies beside the artifact; None where there is none.
    """

    policy: ArtifactPolicy
    store: ReleaseStore
    model: str
    beside: Callable[[], str | None]

    def admit(self, folder: Path, manifest: Manifest, kept: str | None = None) -> Admitted:
        """Check formats and signature.

        Args:
            folder: The files.
            manifest: What they are.
            kept: A signature that the store has for them already.

        Raises:
            ArtifactRefused: The policy refuses a file, or no signature holds.
        """
        self.policy.check_formats(folder, manifest)
        if not self.policy.public_keys:
            return Admitted()
        refusal = None
        for signature, keep in self._signatures(folder, manifest, kept):
            try:
                signed = self._verified(signature, manifest)
            except ArtifactRefused as error:
                refusal = error
            else:
                return Admitted(signature=signature if keep else None, signed=signed)
        raise refusal or ArtifactRefused(
            f"the artifact of model {self.model!r} is not signed, and public_keys requires it; sign it with "
            f"`python -m hybrid_provider.artifacts sign`, as {SIGNATURE_NAME} among its files or as an "
            "object of the artifact's name and .sig beside it"
        )

    def admit_known(self, release: Release) -> None:
        """Check a release that the store has; the policy may be newer than it."""
        admitted = self.admit(release.path, release.manifest, self.store.signature(release))
        if self._is_news(admitted) or admitted.signature != self.store.signature(release):
            with self.store.locked(self.model):
                self.store.keep_signature(release, admitted.signature)
                self.remember(admitted)

    def remember(self, admitted: Admitted) -> None:
        """Refuse older signatures from here on; the caller holds the model's lock."""
        if admitted.signed is None or admitted.signed.signed is None or not self._is_news(admitted):
            return
        path = self._last_signed
        with store_errors_explained(path):
            make_folder(path.parent)
            write_small_file(path, f"{admitted.signed.signed.isoformat()}\n")

    @property
    def _last_signed(self) -> Path:
        return self.store.folder(self.model) / _LAST_SIGNED

    def _last(self) -> datetime | None:
        with store_errors_explained(self._last_signed):
            try:
                return datetime.fromisoformat(self._last_signed.read_text().strip())
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise StoreError(
                    f"{self._last_signed} holds no date, so a rollback cannot be told; write the date of the "
                    "newest signature there (the signature in a release's provenance has it)"
                ) from error

    def _is_news(self, admitted: Admitted) -> bool:
        when = admitted.signed.signed if admitted.signed else None
        last = self._last()
        return when is not None and (last is None or when > last)

    def _signatures(self, folder: Path, manifest: Manifest, kept: str | None) -> Iterator[tuple[str, bool]]:
        """Signatures to try, and whether the store must keep them beside the release."""
        if kept is not None:
            yield kept, True
        for file in manifest.files:
            if file.path == SIGNATURE_NAME and file.size_bytes <= MAX_SIGNATURE_BYTES:
                yield (folder / file.path).read_text(encoding="utf-8", errors="replace"), False
        beside = self.beside()
        if beside is not None:
            yield beside, True

    def _verified(self, signature: str, manifest: Manifest) -> Signed:
        signed = verify(signature, [load_public_key(path) for path in self.policy.public_keys])
        signed.check_files(manifest)
        if signed.model not in {None, self.model}:
            raise ArtifactRefused(
                f"the signature is of model {signed.model!r}, and model {self.model!r} was asked for"
            )
        if not self.policy.allow_older:
            self._check_not_older(signed.signed)
        return signed

    def _check_not_older(self, when: datetime | None) -> None:
        last = self._last()
        if last is not None and (when is None or when < last):
            dated = when.isoformat() if when else "on no date (by another tool)"
            raise ArtifactRefused(
                f"the release was signed {dated}, and one of model {self.model!r} that was signed "
                f"{last.isoformat()} was accepted before; set allow_older to go back on purpose"
            )
