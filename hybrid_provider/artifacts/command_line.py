"""The arguments of ``python -m hybrid_provider.artifacts`` and what each command does with them."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_provider.artifacts.admission import Admission
from hybrid_provider.artifacts.channels import CHANNELS
from hybrid_provider.artifacts.clouds import CloudAccess
from hybrid_provider.artifacts.console import Outcome, progress_shown, table
from hybrid_provider.artifacts.formats import Format
from hybrid_provider.artifacts.importing import import_release
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.artifacts.progress import in_units
from hybrid_provider.artifacts.release import created_of
from hybrid_provider.artifacts.retention import KEEP_RELEASES, check_keep, in_use, pin, pins, prune, unpin
from hybrid_provider.artifacts.signature import fingerprint, load_private_key, sign, sign_folder
from hybrid_provider.artifacts.store import LATEST, ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.aws import AwsAccess
from hybrid_provider.exceptions import ArtifactRefused, ConfigurationError, StoreError
from hybrid_provider.names import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.artifacts.reading import Access
    from hybrid_provider.artifacts.release import Release

    Command = Callable[[argparse.Namespace], Outcome]

_EXPECTED = {
    "account": "refuse a bucket of another AWS account",
    "region": "refuse a bucket in another region",
    "kms-key": "refuse objects that are not encrypted with this key (ARN)",
}
_AWS = {
    "profile": "of ~/.aws/config",
    "region": "of the bucket; $AWS_REGION, $AWS_DEFAULT_REGION or the profile's where left out",
    "endpoint-url": "of another S3 than AWS's",
    "ca-bundle": "certificates (PEM) to trust instead of the system's",
}
# Google's and Azure's credentials are found in the environment; this machine's files need none.
_CLOUDS = {"gs": "gs", "az": "az", "abfs": "az", "file": "file"}
STORE_VARIABLE = "AIRFLOW__HYBRID__STORE_ROOT"
PASSWORD_VARIABLE = "HYBRID_SIGNING_PASSWORD"  # noqa: S105 - the variable's name


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    top = argparse.ArgumentParser(
        prog="python -m hybrid_provider.artifacts",
        description="Bring models into a store of verified releases.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], Outcome], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        _store_arguments(added, model_required=name != "list")
        return added

    added = add("sync", _sync, "Bring an artifact from cloud storage into the store.")
    added.add_argument(
        "uri", help="s3://bucket/path/model.tar.gz, or a prefix with a / at its end; gs, az, file"
    )
    added.add_argument("--expected-sha256", metavar="HEX", help="of the object's own bytes")
    added.add_argument(
        "--max-bytes-per-second",
        type=int,
        metavar="N",
        help="of all requests together; no limit by default",
    )
    added.add_argument(
        "--resumable-from",
        type=float,
        default=TransferPolicy().resumable_from.total_seconds(),
        metavar="SECONDS",
        help="keep the parts of one object for a retry where its transfer takes so long (default: 60)",
    )
    added.add_argument("--keep-releases", type=int, metavar="N", help="then prune all but the newest N")
    _policy_arguments(added, sources=True)
    _aws_arguments(added)

    added = add("import", _import, "Add a local file, archive or folder to the store.")
    added.add_argument("path", type=Path, help="a folder, an archive (.tar, .tar.gz, .tar.zst), or one file")
    added.add_argument("--created", type=_date, metavar="DATE", help="the release's date, ISO 8601")
    _policy_arguments(added, sources=False)

    add("list", _list, "List releases, the oldest first.")

    added = add("verify", _verify, "Read releases again and compare each file with its manifest.")
    added.add_argument("release", nargs="?", help="an id, 'latest' or a channel; all where left out")
    _key_argument(added)

    added = add("pin", _pin, "Keep a release from being pruned.")
    added.add_argument("release", help="an id, 'latest' or a channel")
    added.add_argument("--reason", default="", help="for whoever wonders why it is there")

    added = add("unpin", _unpin, "Let a release be pruned again.")
    added.add_argument("release", help="an id, 'latest' or a channel")

    added = add("prune", _prune, "Remove all but the newest releases and those that are needed.")
    added.add_argument("--keep", type=int, default=KEEP_RELEASES, metavar="N", help="default: %(default)s")
    added.add_argument("--dry-run", action="store_true", help="only say what would go")

    added = add("sign", _sign, "Sign a release of the store, or a folder before it is uploaded.")
    added.add_argument(
        "release", nargs="?", default=LATEST, help="an id, a channel, or 'latest', the default"
    )
    added.add_argument("--folder", type=Path, help="sign this folder instead, with model.sig in it")
    added.add_argument(
        "--key", type=Path, required=True, help=f"private key in PEM; its password in ${PASSWORD_VARIABLE}"
    )
    added.add_argument("--output", type=Path, help="also write the signature here")
    return top


def _store_arguments(added: argparse.ArgumentParser, *, model_required: bool) -> None:
    added.add_argument(
        "--store",
        type=Path,
        default=os.environ.get(STORE_VARIABLE),
        help=f"the folder of releases; ${STORE_VARIABLE} where left out",
    )
    added.add_argument(
        "--model",
        required=model_required,
        help="the model's name" if model_required else "only this model; all where left out",
    )
    added.add_argument("--json", action="store_true", help="print one JSON value, and no progress")


def _policy_arguments(added: argparse.ArgumentParser, *, sources: bool) -> None:
    group = added.add_argument_group("policy")
    group.add_argument(
        "--allowed-format",
        dest="allowed_formats",
        action="append",
        metavar="FORMAT",
        help="'strict' (nothing that runs code when it is loaded), or one of "
        f"{', '.join(sorted(Format))}; repeatable",
    )
    _key_argument(group)
    group.add_argument("--allow-older", action="store_true", help="take an older signature than the last")
    if sources:
        group.add_argument(
            "--allowed-source",
            dest="allowed_sources",
            action="append",
            metavar="URI",
            help="refuse what is not this, or with a / at its end not below it; repeatable",
        )
        for name, text in _EXPECTED.items():
            group.add_argument(f"--expected-{name}", metavar=name.rpartition("-")[2].upper(), help=text)


def _key_argument(added: argparse._ActionsContainer) -> None:
    added.add_argument(
        "--public-key",
        dest="public_keys",
        type=Path,
        action="append",
        metavar="FILE",
        help="require a signature by this key (PEM); repeatable",
    )


def _aws_arguments(added: argparse.ArgumentParser) -> None:
    group = added.add_argument_group("AWS", "Credentials are found as by the AWS command line.")
    for name, text in _AWS.items():
        group.add_argument(f"--{name}", metavar=name.rpartition("-")[2].upper(), help=text)


def _date(text: str) -> datetime:
    date = datetime.fromisoformat(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _store(asked: argparse.Namespace) -> ReleaseStore:
    if asked.store is None:
        raise ConfigurationError(f"no store: give --store, or set {STORE_VARIABLE}")
    return ReleaseStore(Path(asked.store))


def _policy(asked: argparse.Namespace) -> ArtifactPolicy:
    given = vars(asked)
    names = ArtifactPolicy.__dataclass_fields__.keys() & given.keys()
    rules = {name: given[name] for name in names}
    if rules.get("allowed_formats") == ["strict"]:
        rules["allowed_formats"] = "strict"
    return ArtifactPolicy.of(rules)


def _access(asked: argparse.Namespace) -> Access:
    cloud = _CLOUDS.get(asked.uri.partition("://")[0])
    return CloudAccess(cloud=cloud) if cloud else _aws_access(asked)


def _aws_access(asked: argparse.Namespace) -> AwsAccess:
    import boto3
    from botocore.exceptions import BotoCoreError

    # boto3 alone of AWS's SDKs looks for AWS_DEFAULT_REGION only.
    region = asked.region or os.environ.get("AWS_REGION") or None
    try:
        session = boto3.Session(profile_name=asked.profile, region_name=region)
    except BotoCoreError as error:
        raise ConfigurationError(str(error)) from error
    if session.region_name is None:
        raise ConfigurationError("no AWS region: give --region, or set AWS_REGION")
    endpoints = {"s3": asked.endpoint_url} if asked.endpoint_url else {}
    return AwsAccess(session=session, verify=asked.ca_bundle, endpoints=endpoints)


def _sync(asked: argparse.Namespace) -> Outcome:
    store = _store(asked)
    if asked.keep_releases is not None:
        check_keep(asked.keep_releases)  # before hours of transfer rather than after them
    with closing(progress_shown(silent=asked.json)) as progress:
        result = sync(
            _access(asked),
            asked.uri,
            asked.model,
            store,
            progress=progress.show,
            expected_sha256=asked.expected_sha256,
            transfer=TransferPolicy(
                max_bytes_per_second=asked.max_bytes_per_second,
                resumable_from=timedelta(seconds=asked.resumable_from),
            ),
            policy=_policy(asked),
        )
    if asked.keep_releases is not None:
        prune(store, asked.model, asked.keep_releases)
    return _brought(result.release, result.seconds, result.reused_bytes, was_there=result.read_bytes == 0)


def _import(asked: argparse.Namespace) -> Outcome:
    begun = time.monotonic()
    release = import_release(
        _store(asked), asked.model, asked.path, created=asked.created, policy=_policy(asked)
    )
    return _brought(release, time.monotonic() - begun, 0, was_there=False)


def _brought(release: Release, seconds: float, reused_bytes: int, *, was_there: bool) -> Outcome:
    how = "was in the store already" if was_there else f"synced and verified in {seconds:.1f} s"
    count = len(release.manifest.files)
    return Outcome(
        facts=release.to_dict(seconds=seconds, reused_bytes=reused_bytes),
        text=f"{release.release_id} {how}: {count} file{'s' * (count != 1)}, "
        f"{in_units(release.manifest.size_bytes)}, in {release.path}",
    )


def _list(asked: argparse.Namespace) -> Outcome:
    store = _store(asked)
    models = [checked_name("model", asked.model)] if asked.model else store.models()
    rows = [_row(store, model, release_id) for model in models for release_id in store.release_ids(model)]
    lines = [
        [row["model"], row["release_id"], in_units(row["size_bytes"]), ", ".join(row["notes"])]
        for row in rows
    ]
    none = f"no releases{f' of model {asked.model}' if asked.model else ''} in {store.root}"
    return Outcome(facts=rows, text=table(["model", "release", "size", ""], lines) if rows else none)


def _row(store: ReleaseStore, model: str, release_id: str) -> dict[str, Any]:
    notes = [name for name in CHANNELS if store.channel(model, name).current == release_id]
    reason = pins(store, model).get(release_id)
    if reason is not None:
        notes.append(f"pinned: {reason}" if reason else "pinned")
    row: dict[str, Any] = {
        "model": model,
        "release_id": release_id,
        "created": created_of(release_id).isoformat(),
        "digest": None,
        "files": 0,
        "size_bytes": 0,
        "uri": None,
        "notes": notes,
    }
    try:
        release = store.release(model, release_id)
    except StoreError:
        return row | {"notes": [*notes, "damaged"]}
    return row | {
        "digest": release.digest,
        "files": len(release.manifest.files),
        "size_bytes": release.manifest.size_bytes,
        "uri": release.artifact.uri if release.artifact else None,
    }


def _verify(asked: argparse.Namespace) -> Outcome:
    store = _store(asked)
    release_ids = store.release_ids(asked.model)
    if asked.release:
        release_ids = (store.release(asked.model, asked.release).release_id,)
    if not release_ids:  # a name that is spelled wrong must not look like one that was found good
        store.release(asked.model, LATEST)
    faults = {release_id: _faults(store, asked, release_id) for release_id in release_ids}
    lines = [
        f"{release_id}: {fault}" for release_id, found in faults.items() for fault in found or ["as it was"]
    ]
    if any(faults.values()):
        folder = store.folder(asked.model) / "releases"
        lines.append(f"To mend a release that was changed, remove its folder in {folder} and sync it again.")
    return Outcome(facts=faults, text="\n".join(lines), good=not any(faults.values()))


def _faults(store: ReleaseStore, asked: argparse.Namespace, release_id: str) -> list[str]:
    # What is older than the last signature may well be in the store; only a sync must not bring it.
    policy = ArtifactPolicy(public_keys=tuple(asked.public_keys or ()), allow_older=True)
    faults: list[str] = []
    try:
        release = store.release(asked.model, release_id)
        with in_use(store, release):
            faults += store.verify(release)
            Admission(policy, store, asked.model, lambda: None).admit(
                release.path, release.manifest, store.signature(release)
            )
    except (StoreError, ArtifactRefused) as error:
        faults.append(str(error))
    return faults


def _pin(asked: argparse.Namespace) -> Outcome:
    release = pin(_store(asked), asked.model, asked.release, asked.reason)
    return Outcome(
        facts={"release_id": release.release_id, "pinned": True}, text=f"{release.release_id} is pinned"
    )


def _unpin(asked: argparse.Namespace) -> Outcome:
    release = unpin(_store(asked), asked.model, asked.release)
    return Outcome(
        facts={"release_id": release.release_id, "pinned": False}, text=f"{release.release_id} is not pinned"
    )


def _prune(asked: argparse.Namespace) -> Outcome:
    pruned = prune(_store(asked), asked.model, asked.keep, only_look=asked.dry_run)
    did = "would go" if asked.dry_run else "gone"
    lines = [f"{release_id}  {did}" for release_id in pruned.removed]
    lines += [f"{release_id}  stays: {why}" for release_id, why in pruned.kept.items()]
    lines.append(f"{in_units(pruned.freed_bytes)} {'would be ' if asked.dry_run else ''}freed")
    return Outcome(
        facts={
            "removed": list(pruned.removed),
            "freed_bytes": pruned.freed_bytes,
            "kept": dict(pruned.kept),
        },
        text="\n".join(lines),
    )


def _sign(asked: argparse.Namespace) -> Outcome:
    checked_name("model", asked.model)
    key = load_private_key(asked.key, os.environ.get(PASSWORD_VARIABLE))
    if asked.folder:
        written = sign_folder(asked.folder, asked.model, key)
        signature, what = written.read_text(), str(asked.folder)
    else:
        store = _store(asked)
        with store.locked(asked.model):
            release = store.release(asked.model, asked.release)
            faults = store.verify(release)
            if faults:
                raise ArtifactRefused(f"{release.release_id} is not signed, since {faults[0]}; sync it again")
            signature = sign(release.manifest, asked.model, key, datetime.now(UTC))
            written = store.keep_signature(release, signature)
        what = release.release_id
    if asked.output:
        asked.output.write_text(signature)
        written = asked.output
    digest = fingerprint(key.public_key())
    return Outcome(
        facts={"signed": what, "signature": str(written), "key": digest},
        text=f"{what} is signed by key {digest[:12]}: {written}",
    )
