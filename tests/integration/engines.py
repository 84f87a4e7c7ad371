"""Docker Engines for tests: by their socket, over mutual TLS and over SSH."""

from __future__ import annotations

import ipaddress
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hybrid_provider.targets.docker import EngineAddress, EngineTls
from tests.dockerd import engine
from tests.images import build_router, build_server
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.dockerd import Engine


@dataclass(frozen=True, kw_only=True)
class Dockerd:
    """A running engine that holds the stand-ins of a model server and a router.

    Attributes:
        engine: The engine.
        tls_port: Where it listens for who has a certificate.
        certificates: The folder of ``ca.pem``, and of the pairs ``client`` and ``stranger``.
    """

    engine: Engine
    tls_port: int
    certificates: Path

    @property
    def address(self) -> EngineAddress:
        return EngineAddress(url=self.engine.socket)

    def over_tls(self, who: str = "client", host: str = "127.0.0.1") -> EngineAddress:
        tls = EngineTls(
            ca_cert=self.certificates / "ca.pem",
            client_cert=self.certificates / f"{who}.pem",
            client_key=self.certificates / f"{who}-key.pem",
        )
        return EngineAddress(url=f"tcp://{host}:{self.tls_port}", tls=tls)

    def names(self, kind: str, model: str) -> list[str]:
        """Names of the ``volume`` or ``container`` kind that belong to a model."""
        listed = {"volume": ("volume", "ls"), "container": ("ps", "--all")}[kind]
        form = {"volume": "{{.Name}}", "container": "{{.Names}}"}[kind]
        said = self.engine.docker(*listed, "--filter", f"label=hybrid.model={model}", "--format", form)
        return sorted(said.split())

    def clear(self, model: str) -> None:
        """Take away all that is of a model."""
        for name in self.names("container", model):
            self.engine.docker("rm", "--force", name)
        for name in self.names("volume", model):
            self.engine.docker("volume", "rm", name)


@contextmanager
def dockerd(folder: Path) -> Iterator[Dockerd]:
    certificates = folder / "certificates"
    certificates.mkdir()
    authority = Authority("engines of this site")
    (certificates / "ca.pem").write_bytes(authority.certificate_pem)
    authority.issue(certificates, "server")
    authority.issue(certificates, "client")
    Authority("somebody else").issue(certificates, "stranger")
    port = free_port()
    options = [
        *("--host", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", f"{certificates}/ca.pem"),
        *("--tlscert", f"{certificates}/server.pem", "--tlskey", f"{certificates}/server-key.pem"),
    ]
    with engine(folder / "images", folder, *options) as running:
        build_router(running)
        build_server(running)
        yield Dockerd(engine=running, tls_port=port, certificates=certificates)


class Authority:
    """A certificate authority."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._begun(self._name, self._key.public_key()).add_extension(
            constraints, critical=True
        )
        self.certificate_pem = certificate.sign(self._key, hashes.SHA256()).public_bytes(
            serialization.Encoding.PEM
        )

    def issue(self, folder: Path, name: str) -> None:
        """Write ``<name>.pem`` and ``<name>-key.pem``, for a client as well as for a server on 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        begun = self._begun(subject, key.public_key())
        certificate = begun.add_extension(names, critical=False).add_extension(usage, critical=False)
        (folder / f"{name}.pem").write_bytes(
            certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        (folder / f"{name}-key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def _begun(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=2))
        )
