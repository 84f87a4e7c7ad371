"""The access to wherever a URI points, from Airflow's connections.

Google's and Azure's connections are read by the names that their own providers give the fields; the providers
themselves need not be installed.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from hybrid_provider.artifacts.clouds import CloudAccess
from hybrid_provider.artifacts.objects import Location
from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.hooks.aws import aws_access

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection

    from hybrid_provider.artifacts.reading import Access

# Exchanged for tokens at addresses of Google's that obstore does not know.
_NOT_TAKEN_ON = ("impersonation_chain", "credential_config_file", "key_secret_name", "idp_issuer_url")


class ReadsObjects(Protocol):
    """The arguments of everything that reads objects, alike in the operator, the sensor and the triggers."""

    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    botocore_config: dict[str, Any] | None
    gcp_conn_id: str | None
    wasb_conn_id: str | None


def connections_of(reader: ReadsObjects) -> dict[str, Any]:
    """Those arguments by name, for a trigger that is to read the same."""
    return {
        "aws_conn_id": reader.aws_conn_id,
        "region_name": reader.region_name,
        "verify": reader.verify,
        "botocore_config": reader.botocore_config,
        "gcp_conn_id": reader.gcp_conn_id,
        "wasb_conn_id": reader.wasb_conn_id,
    }


def access_for(reader: ReadsObjects, uri: str) -> Access:
    """The access to a URI's cloud, by the one of the reader's connections that it needs.

    Without a connection (None) the AWS clients, Google's and Azure's search for credentials on their own.

    Raises:
        ConfigurationError: The URI or the connection cannot be right.
    """
    scheme = Location.parse(uri).scheme
    if scheme == "s3":
        return aws_access(reader.aws_conn_id, reader.region_name, reader.verify, reader.botocore_config)
    if scheme == "gs":
        return google_access(reader.gcp_conn_id)
    if scheme in {"az", "abfs"}:
        return azure_access(reader.wasb_conn_id)
    return CloudAccess(cloud="file")


def google_access(gcp_conn_id: str | None) -> CloudAccess:
    """Open a ``google_cloud_platform`` connection: keyfile_dict, key_path, is_anonymous, or the machine's.

    Raises:
        ConfigurationError: It asks for an identity that cannot be taken on here; the machine's own may be
            allowed more, so it does not stand in.
    """
    extra = _connection(gcp_conn_id, "google_cloud_platform").extra_dejson if gcp_conn_id else {}
    for name in _NOT_TAKEN_ON:
        if _field(extra, "google_cloud_platform", name):
            raise ConfigurationError(
                f"the google_cloud_platform connection {gcp_conn_id!r} sets {name}, which is not supported; "
                "give a service account's key (keyfile_dict, key_path), or let the worker run as the account"
            )
    config: dict[str, str | bool] = {}
    key = _field(extra, "google_cloud_platform", "keyfile_dict")
    path = _field(extra, "google_cloud_platform", "key_path")
    if key:
        config["service_account_key"] = key if isinstance(key, str) else json.dumps(key)
    elif path:
        config["service_account"] = str(path)
    elif _field(extra, "google_cloud_platform", "is_anonymous"):
        config["skip_signature"] = True
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")  # where Google's own libraries look
    if emulator:
        config |= {"base_url": emulator, "skip_signature": True}
    return CloudAccess(cloud="gs", config=config, plain_http=bool(emulator and emulator.startswith("http:")))


def azure_access(wasb_conn_id: str | None) -> CloudAccess:
    """Open a ``wasb`` connection, with the fields and their order as in Azure's provider.

    ``connection_string``, ``shared_access_key``, ``tenant_id`` (login and password are the client's id and
    secret then), ``sas_token``, else the password as the account's key.
    """
    if wasb_conn_id is None:
        return CloudAccess(cloud="az")
    connection = _connection(wasb_conn_id, "wasb")
    extra = connection.extra_dejson
    text = _field(extra, "wasb", "connection_string")
    if text:
        return _from_connection_string(str(text))
    config = _account(connection)
    tenant, sas = _field(extra, "wasb", "tenant_id"), _field(extra, "wasb", "sas_token")
    key = _field(extra, "wasb", "shared_access_key") or connection.password
    if tenant:
        client = {"client_id": connection.login or "", "client_secret": connection.password or ""}
        config |= {"tenant_id": str(tenant), **client}
    elif sas:
        config["sas_key"] = str(sas).rpartition("?")[2]
    elif key:
        config["account_key"] = str(key)
    return _azure(config)


def _account(connection: Connection) -> dict[str, str | bool]:
    """The account's name and endpoint: the host may be either, the login the name."""
    host = connection.host or ""
    if "." in host or "://" in host:
        endpoint = host if "://" in host else f"https://{host}"
        name = (urlsplit(endpoint).hostname or "").partition(".")[0]
        return {"account_name": name, "endpoint": endpoint.rstrip("/")}
    name = host or connection.login or ""
    return {"account_name": name} if name else {}


def _azure(config: dict[str, str | bool]) -> CloudAccess:
    plain_http = str(config.get("endpoint", "")).startswith("http:")
    return CloudAccess(cloud="az", config=config, plain_http=plain_http)


def _from_connection_string(text: str) -> CloudAccess:
    fields = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    try:
        account = fields["AccountName"]
    except KeyError:
        raise ConfigurationError("the wasb connection's connection_string names no AccountName") from None
    suffix = fields.get("EndpointSuffix", "core.windows.net")
    scheme = fields.get("DefaultEndpointsProtocol", "https")
    endpoint = fields.get("BlobEndpoint", f"{scheme}://{account}.blob.{suffix}").rstrip("/")
    config: dict[str, str | bool] = {"account_name": account, "endpoint": endpoint}
    if "AccountKey" in fields:
        config["account_key"] = fields["AccountKey"]
    if "SharedAccessSignature" in fields:
        config["sas_key"] = fields["SharedAccessSignature"].lstrip("?")
    return _azure(config)


def _connection(conn_id: str, conn_type: str) -> Connection:
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"{conn_type} connection {conn_id!r} does not exist; add it under Admin, Connections, or with "
            f"`airflow connections add {conn_id} --conn-type {conn_type}`"
        ) from None


def _field(extra: Mapping[str, Any], conn_type: str, name: str) -> object:
    """A field of the extra, under its name or the long one that older Airflow gave it."""
    return extra.get(name) or extra.get(f"extra__{conn_type}__{name}")
