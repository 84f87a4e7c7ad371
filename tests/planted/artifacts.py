"""Bugs in what reads artifacts."""

from __future__ import annotations

from tests.planted.bug import Bug

ARCHIVE = ("tests/unit/test_archive.py", "tests/unit/test_archive_hostile.py")
FAULTS = ("tests/integration/test_sync_faults.py",)
PREFIX = ("tests/integration/test_sync_prefix.py",)
RESUME = ("tests/integration/test_sync_resume.py",)
CLOUDS = ("tests/integration/test_cloud_checksums.py",)
SYNC = ("tests/integration/test_sync.py",)
BUGS = (
    Bug(
        "a replaced object is called unavailable",
        "artifacts/transfer.py",
        "raise item.changed() from error",
        'raise ArtifactUnavailable("x") from error',
        SYNC,
    ),
    Bug(
        "a short body is taken",
        "artifacts/transfer.py",
        "if len(body) != piece.size_bytes or",
        "if",
        FAULTS,
    ),
    Bug(
        "no second attempt", "artifacts/transfer.py", "range(1, self._policy.attempts)", "range(1, 1)", FAULTS
    ),
    Bug(
        "a cut-off gzip is whole",
        "artifacts/inflate.py",
        "if member is not None or carried or not begun",
        "if not begun",
        ARCHIVE,
    ),
    Bug(
        "what follows gzip is ignored",
        "artifacts/inflate.py",
        "left, member = member.unused_data, None",
        "return",
        ARCHIVE,
    ),
    Bug(
        "a taken name is written again",
        "artifacts/file_names.py",
        "self._spelled[folded] = path",
        "pass",
        ARCHIVE,
    ),
    Bug(
        "folders that differ by case are two",
        "artifacts/file_names.py",
        "spelled = self._spelled.get(folded)",
        "spelled = None",
        ARCHIVE,
    ),
    Bug(
        "zeros behind an archive are read without end",
        "artifacts/tar.py",
        "if left < 0 or bytes",
        "if bytes",
        ARCHIVE,
    ),
    Bug(
        "a release may have any number of folders",
        "artifacts/folder.py",
        "if len(self._folders) == MAX_FOLDERS:",
        "if False:",
        ARCHIVE,
    ),
    Bug(
        "a letter of which nothing is seen is taken",
        "artifacts/file_names.py",
        "is_word and not _INVISIBLE.match(character)",
        "is_word",
        ARCHIVE,
    ),
    Bug(
        "a checksum is not compared",
        "artifacts/fetch.py",
        "sha256.hexdigest() != self.expected_sha256",
        "False",
        SYNC,
    ),
    Bug(
        "a kept file is not read again",
        "artifacts/folder.py",
        "if not _has_sha256(source, sha256):",
        "if False:",
        PREFIX,
    ),
    Bug(
        "a leftover is not used",
        "artifacts/reuse.py",
        "staging.rename(leftover)\n    try",
        "pass\n    try",
        PREFIX,
    ),
    Bug("a refused prefix stays", "artifacts/reuse.py", "if not _may_be_mended(error):", "if False:", PREFIX),
    Bug(
        "a changed prefix is taken",
        "artifacts/fetch.py",
        "artifact_of(location, objects).etag != self.artifact.etag",
        "False",
        SYNC,
    ),
    Bug(
        "silence is not reported",
        "artifacts/transfer.py",
        "while not wait([future], _SECONDS_BETWEEN_LOOKS).done:",
        "while not wait([future]).done:",
        FAULTS,
    ),
    Bug(
        "a kept part is not read again",
        "artifacts/parts.py",
        "if hashlib.sha256(body).digest() != content[:_SHA256_BYTES]:",
        "if False:",
        RESUME,
    ),
    Bug(
        "another object's parts are taken",
        "artifacts/parts.py",
        "if identity == self._identity:",
        "if True:",
        RESUME,
    ),
    Bug("parts are not kept", "artifacts/parts.py", "if not self._room or", "if True or", RESUME),
    Bug(
        "S3's checksum is not compared",
        "artifacts/fetch.py",
        "refuse_damaged(self.access, item, running)",
        "pass",
        RESUME,
    ),
    Bug(
        "parts of an upload are taken to be even",
        "artifacts/s3_checksums.py",
        "return all(pool.map(is_as_long, range(1, checksum.parts)))",
        "return True",
        RESUME,
    ),
    Bug(
        "a cloud is not asked for its checksum",
        "artifacts/cloud_checksums.py",
        "if self._refused or self._access.cloud not in _CANNOT_ASK:",
        "if True:",
        CLOUDS,
    ),
    Bug(
        "a signature is asked for by the escaped name",
        "artifacts/cloud_checksums.py",
        'if "account_key" in config:',
        "if False:",
        CLOUDS,
    ),
    Bug(
        "a link among this machine's files is followed",
        "artifacts/clouds.py",
        'if access.cloud != "file":',
        "if True:",
        ("tests/integration/test_clouds.py",),
    ),
    Bug(
        "a link leads out of the allowed sources",
        "artifacts/policy.py",
        'if path[0] != "file":',
        "if True:",
        ("tests/unit/test_policy.py",),
    ),
    Bug(
        "an import follows a link that came since it looked",
        "artifacts/importing.py",
        "_FOLDER | os.O_NOFOLLOW",
        "_FOLDER",
        ("tests/unit/test_importing.py",),
    ),
    Bug(
        "keys of an assumed role are used past their time",
        "artifacts/bucket.py",
        "_CREDENTIAL_LIFE = timedelta(minutes=5)",
        "_CREDENTIAL_LIFE = timedelta(hours=1)",
        ("tests/integration/test_sync_assumed_role.py",),
    ),
    Bug(
        "a session token goes to where an endpoint redirects",
        "artifacts/bucket.py",
        'options |= not_followed_from(config["endpoint"])',
        "pass",
        ("tests/integration/test_artifact_s3.py",),
    ),
    Bug(
        "a session token goes to another port of the endpoint's host",
        "artifacts/s3.py",
        "if status in REDIRECTS or status in _DENIED:",
        "if status in _DENIED:",
        ("tests/integration/test_artifact_s3.py",),
    ),
    Bug(
        "a shared access signature goes to another port of the endpoint's host",
        "artifacts/clouds.py",
        "if error.code in REDIRECTS:",
        "if not error.code:",
        ("tests/integration/test_clouds.py",),
    ),
    Bug(
        "a clock that is off looks like access denied",
        "artifacts/s3.py",
        "if clock is not None:",
        "if not clock:",
        ("tests/integration/test_artifact_s3.py",),
    ),
    Bug(
        "the names of a release may fill the memory",
        "artifacts/file_names.py",
        "if self._bytes > MAX_NAMES_BYTES:",
        "if not self._bytes:",
        ("tests/unit/test_archive_hostile.py", "tests/unit/test_manifest.py"),
    ),
    Bug(
        "a listing may fill the memory",
        "artifacts/objects.py",
        "if count > MAX_LISTED or keys_bytes > MAX_KEYS_BYTES:",
        "if not count:",
        ("tests/integration/test_sync_prefix.py",),
    ),
    Bug(
        "a session token is logged",
        "aws_logging.py",
        "record.msg, record.args = masked, ()",
        "pass",
        ("tests/integration/test_sync_assumed_role.py",),
    ),
    Bug(
        "a late part lets all others fill the memory",
        "artifacts/transfer.py",
        "self._pending.popleft()\n            self._submit(1)",
        "self._pending.popleft()\n            self._submit(2)",
        ("tests/integration/test_sync_memory.py",),
    ),
    Bug("a full disk is not explained", "artifacts/folder.py", "    errno.ENOSPC:", "    9999:", FAULTS),
)
