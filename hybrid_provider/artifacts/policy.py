"""What a site takes: from where, in which formats, and signed by whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from hybrid_provider.artifacts.file_names import shown
from hybrid_provider.artifacts.formats import RUNS_CODE, Format, format_of
from hybrid_provider.artifacts.signature import SIGNATURE_NAME
from hybrid_provider.exceptions import ArtifactRefused, ConfigurationError

if TYPE_CHECKING:
    from hybrid_provider.artifacts.manifest import Manifest

STRICT = "strict"
_ACCOUNT_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPolicy:
    """Rules about an artifact; one that is absent allows everything.

    Attributes:
        allowed_sources: URIs of folders (``s3://bucket/models/``) or objects that may be read. A folder
            allows what lies below it, and no neighbour whose name begins alike.
        allowed_formats: Formats that a release's files may have, told by their content. ``strict`` in
            :meth:`of` stands for all but those that run code when they are loaded.
        expected_account: The AWS account that owns the bucket, 12 digits; S3 itself checks it.
        expected_region: The bucket's region.
        expected_kms_key: The key that each object is encrypted with: its ARN, or the id in it.
        public_keys: Files of trusted keys in PEM; where there are any, a signature by one of them over
            exactly the release's files is required.
        allow_older: Take a signature that is older than the last one accepted for the model.
    """

    allowed_sources: tuple[str, ...] | None = None
    allowed_formats: frozenset[Format] | None = None
    expected_account: str | None = None
    expected_region: str | None = None
    expected_kms_key: str | None = None
    public_keys: tuple[Path, ...] = ()
    allow_older: bool = False

    def __post_init__(self) -> None:
        for source in self.allowed_sources or ():
            _path_of(source, ConfigurationError)
        account = self.expected_account
        if account is not None and not (
            account.isascii() and account.isdigit() and len(account) == _ACCOUNT_DIGITS
        ):
            raise ConfigurationError(f"expected_account {account!r} is not the 12 digits of an AWS account")
        if self.expected_kms_key is not None and "alias/" in self.expected_kms_key:
            raise ConfigurationError(
                f"expected_kms_key {self.expected_kms_key!r} is an alias, which may point elsewhere "
                "tomorrow; give the key's ARN"
            )

    @classmethod
    def of(cls, given: ArtifactPolicy | Mapping[str, object] | None) -> ArtifactPolicy:
        """A policy from a mapping of its attributes: plain values, ``allowed_formats`` also ``"strict"``.

        Raises:
            ConfigurationError: A name or a value that cannot be right.
        """
        if given is None or isinstance(given, ArtifactPolicy):
            return given or cls()
        unknown = given.keys() - (names := {field.name for field in fields(cls)})
        if unknown:
            raise ConfigurationError(
                f"policy has no {', '.join(map(repr, sorted(unknown)))}; it has {', '.join(sorted(names))}"
            )
        settings: dict[str, object] = {name: value for name, value in given.items() if value is not None}
        if "allowed_sources" in settings:
            settings["allowed_sources"] = _texts("allowed_sources", settings["allowed_sources"])
        if "allowed_formats" in settings:
            settings["allowed_formats"] = _formats(settings["allowed_formats"])
        if "public_keys" in settings:
            settings["public_keys"] = tuple(map(Path, _texts("public_keys", settings["public_keys"])))
        for name in ("expected_account", "expected_region", "expected_kms_key"):
            if not isinstance(settings.get(name, ""), str):
                raise ConfigurationError(f"{name} is {settings[name]!r}; give it as text, in quotes")
        if not isinstance(settings.get("allow_older", False), bool):
            raise ConfigurationError(f"allow_older is {settings['allow_older']!r}; give True or False")
        return cls(**cast("dict[str, Any]", settings))

    @property
    def asks_for_origin(self) -> bool:
        """Whether the bucket or the objects must be asked who and where they are."""
        return any((self.expected_account, self.expected_region, self.expected_kms_key))

    def check_source(self, uri: str) -> None:
        """Whether a URI may be read.

        Raises:
            ArtifactRefused: It lies outside ``allowed_sources``, or is written so that it might.
        """
        if self.allowed_sources is None:
            return
        path = _path_of(uri, ArtifactRefused)
        for source in self.allowed_sources:
            allowed = _path_of(source, ConfigurationError)
            folder = allowed[:-1]
            below = allowed[-1] == "" and path[: len(folder)] == folder and len(path) > len(folder)
            if (below or path == allowed) and _no_link_leads_out(path, allowed):
                return
        raise ArtifactRefused(
            f"{uri} lies outside allowed_sources ({', '.join(self.allowed_sources)}); nothing was read"
        )

    def check_formats(self, folder: Path, manifest: Manifest) -> None:
        """Whether each file has an allowed format; reads their beginnings.

        Raises:
            ArtifactRefused: One has not; the message names it.
        """
        if self.allowed_formats is None:
            return
        for file in manifest.files:
            if file.path == SIGNATURE_NAME:
                continue
            found = format_of(folder / file.path, file.path)
            if found not in self.allowed_formats:
                raise ArtifactRefused(_refusal(file.path, found, self.allowed_formats))


def _refusal(path: str, found: Format, allowed: frozenset[Format]) -> str:
    if found is Format.OPAQUE:
        what = "an archive that is damaged, encrypted or nested, and cannot be looked into"
    elif found in RUNS_CODE:
        what = f"of the format {found}, which runs code when it is loaded"
    else:
        what = f"of the format {found}"
    allowed_names = ", ".join(sorted(allowed))
    return (
        f"file {shown(path)} is {what}; allowed_formats has {allowed_names}. Export the model to one of them "
        "in the training script"
    )


def _path_of(uri: str, refusal: type[ArtifactRefused | ConfigurationError]) -> tuple[str, ...]:
    """A URI's scheme, authority and path components; an empty one at the end marks a folder."""
    scheme, separator, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    components = path.split("/")
    decoded = unquote(path).replace("\\", "/").split("/")
    if not separator or not scheme or not slash or "" in components[:-1] or {".", ".."} & {*decoded}:
        raise refusal(
            f"URI {uri!r}: give scheme, bucket and a plain path, such as s3://bucket/models/, with no empty "
            "part, '.' or '..' in it"
        )
    return (scheme, authority, *components)


def _no_link_leads_out(path: tuple[str, ...], allowed: tuple[str, ...]) -> bool:
    """Whether a file of this machine really lies where its path says; elsewhere there are no links."""
    if path[0] != "file":
        return True
    real, real_allowed = Path("/", *path[2:]).resolve(), Path("/", *allowed[2:]).resolve()
    return real == real_allowed or (allowed[-1] == "" and real_allowed in real.parents)


def _texts(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str | Path):
        return (str(value),)
    if not isinstance(value, Iterable) or not all(isinstance(item, str | Path) for item in value):
        raise ConfigurationError(f"{name} is {value!r}; give a list of texts")
    return tuple(map(str, value))


def _formats(value: object) -> frozenset[Format]:
    if value == STRICT:
        return frozenset(Format) - RUNS_CODE
    names = _texts("allowed_formats", value)
    unknown = {*names} - {*Format}
    if unknown:
        raise ConfigurationError(
            f"allowed_formats has {', '.join(sorted(unknown))}; give 'strict', or a list of: "
            f"{', '.join(Format)}"
        )
    return frozenset(map(Format, names))
