"""How stores are reached: credentials and endpoints as the environment or --storage-option gives them.

S3's are looked up by botocore, as Amazon's own tools do it, Google's by google-auth, Azure's by obstore.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import Any

from bigin.core import storage
from bigin.core.errors import InputError
from bigin.core.text import parse_size
from bigin.targets.objects.urls import Url

INSTALL = "pip install 'bigin[cloud]'"
COMMON = ("part_size", "timeout", "endpoint", "anonymous")
OPTIONS = {
    "s3": ("region", "profile", "access_key_id", "secret_access_key", "session_token", "addressing_style"),
    "gcs": ("service_account",),
    "azure": ("account_name", "account_key", "sas_token"),
}
TIMEOUT = 120.0  # seconds for a request: a part of 16 MiB takes as long at 1 Mbit/s
CONNECT = 5.0  # seconds for a connection
PATIENCE = 120  # seconds in which obstore tries small requests again
REQUESTS = 64  # connections that are kept
EMULATED = "STORAGE_EMULATOR_HOST"  # where Google's tools look for a simulated store


def options_of(url: Url) -> dict[str, str]:
    """The options that are given; raises InputError for one that its store does not know."""
    given = storage.given()
    known = (*COMMON, *OPTIONS[url.provider])
    for key in given:
        if key not in known:
            raise InputError(f"{url}: expected a storage option among {', '.join(known)}, got {key!r}")
    return given


def part_size() -> int | None:
    """The bytes of a part, where they are given."""
    given = storage.given().get("part_size")
    return None if given is None else parse_size(given)


def require(module: str, url: Any) -> Any:
    """A module of an optional package; raises InputError where it is not installed."""
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = {"google": "google-auth"}.get(str(error.name).partition(".")[0], str(error.name).partition(".")[0])
        raise InputError(f"{url}: expected the package {package}, which is not installed: {INSTALL}") from None


def timeout_of(options: dict[str, str]) -> float:
    """The seconds that a request may take."""
    try:
        seconds = float(options.get("timeout", TIMEOUT))
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise InputError(f"expected a storage option timeout in seconds, got {options['timeout']!r}")
    return seconds


def client_of(options: dict[str, str], endpoint: str) -> dict[str, Any]:
    """What obstore's HTTP client is to do."""
    return {
        "allow_http": endpoint.startswith("http://"),
        "timeout": timedelta(seconds=timeout_of(options)),
        "connect_timeout": timedelta(seconds=CONNECT),
    }


def retrying(*, often: bool) -> dict[str, Any]:
    """How often obstore itself tries again: for small requests; the parts and chunks are tried again by the job."""
    if not often:
        return {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
    backoff = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=15), "base": 2}
    return {"max_retries": 12, "retry_timeout": timedelta(seconds=PATIENCE), "backoff": backoff}


class Connection:
    """A way to a bucket: obstore's stores for it, and what else its provider needs.

    endpoint: the URL of the server, where it is known.
    """

    endpoint = ""

    def __init__(self, url: Url) -> None:
        self.url = url
        self.obstore: Any = require("obstore.store", url)
        self.options = options_of(url)

    def store(self, prefix: str = "", *, often: bool = True) -> Any:
        """obstore's store of what lies below a prefix; with `often`, one that tries again."""
        raise NotImplementedError

    @property
    def anonymous(self) -> bool:
        """Whether requests are not signed."""
        return self.options.get("anonymous", "").lower() in ("1", "true", "yes")


class Credentials:
    """botocore's credentials for obstore, which asks again before they expire."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __call__(self) -> dict[str, Any]:
        """The credentials of this moment."""
        from datetime import UTC, datetime

        now = self.held.get_frozen_credentials()
        token = {"token": now.token} if now.token else {}
        until = datetime.now(UTC) + timedelta(minutes=5)
        return {"access_key_id": now.access_key, "secret_access_key": now.secret_key, **token, "expires_at": until}


@cache
def descriptions(folders: str | None) -> Any:
    """botocore's descriptions of services, which each session would read again: most of the time of a new client.

    folders: where botocore looks for others than its own, from the environment or the configuration.
    """
    from botocore.loaders import create_loader

    return create_loader(folders)


class S3Connection(Connection):
    """S3, and all that speaks it."""

    def __init__(self, url: Url) -> None:
        super().__init__(url)
        require("botocore.session", url)
        import botocore.config
        import botocore.exceptions
        import botocore.session

        options = self.options
        try:
            session = botocore.session.Session(profile=options.get("profile"))
            session.register_component("data_loader", descriptions(session.get_config_variable("data_path")))
            session.set_config_variable("metadata_service_timeout", 1)
            session.set_config_variable("metadata_service_num_attempts", 1)
            if "access_key_id" in options:
                session.set_credentials(
                    options["access_key_id"], options.get("secret_access_key", ""), options.get("session_token")
                )
            self.credentials = None if self.anonymous else session.get_credentials()
            endpoint = options.get("endpoint")
            style = {"addressing_style": options.get("addressing_style", "auto")}
            self.client = session.create_client(
                "s3",
                region_name=options.get("region") or session.get_config_variable("region") or "us-east-1",
                endpoint_url=endpoint,
                config=botocore.config.Config(
                    signature_version=botocore.UNSIGNED if self.anonymous else "s3v4",
                    connect_timeout=CONNECT,
                    read_timeout=timeout_of(options),
                    retries={"total_max_attempts": 1},
                    max_pool_connections=REQUESTS,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3=style,
                ),
            )
        except (botocore.exceptions.BotoCoreError, ValueError) as error:
            raise InputError(f"{url}: {' '.join(str(error).split())}; check the environment (AWS_...)") from None
        if self.credentials is None and not self.anonymous:
            raise InputError(
                f"{url}: expected credentials of S3 in the environment (AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE), got none; set them, or give --storage-option anonymous=true "
                "(bigin.storage_options) for a public bucket"
            )
        self.endpoint = str(self.client.meta.endpoint_url)

    def store(self, prefix: str = "", *, often: bool = True) -> Any:
        amazon = self.endpoint.endswith(".amazonaws.com") and "." not in self.url.bucket
        virtual = self.options.get("addressing_style") == "virtual" or amazon
        address = self.endpoint
        if virtual:
            scheme, _, host = address.partition("://")
            address = f"{scheme}://{self.url.bucket}.{host}"
        signing: dict[str, Any] = {"skip_signature": True} if self.anonymous else {}
        if self.credentials is not None:
            signing = {"credential_provider": Credentials(self.credentials)}
        return self.obstore.S3Store(
            self.url.bucket,
            prefix=prefix or None,
            endpoint=address,
            region=self.client.meta.region_name,
            virtual_hosted_style_request=virtual,
            unsigned_payload=address.startswith("https://"),
            client_options=client_of(self.options, address),
            retry_config=retrying(often=often),
            **signing,
        )


class GoogleToken:
    """google-auth's token for obstore and for requests of our own."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __call__(self) -> dict[str, Any]:
        """The token of this moment."""
        if self.held is None:
            return {"token": "simulated", "expires_at": None}
        if not self.held.valid:
            import urllib3
            from google.auth.transport.urllib3 import Request

            self.held.refresh(Request(urllib3.PoolManager()))  # type: ignore[no-untyped-call]
        from datetime import UTC

        expires = self.held.expiry
        return {"token": self.held.token, "expires_at": None if expires is None else expires.replace(tzinfo=UTC)}


class GcsConnection(Connection):
    """Google Cloud Storage."""

    def __init__(self, url: Url) -> None:
        super().__init__(url)
        simulated = os.environ.get(EMULATED, "")
        if simulated and "://" not in simulated:
            simulated = f"http://{simulated}"
        self.endpoint = self.options.get("endpoint") or simulated or "https://storage.googleapis.com"
        self.token = GoogleToken(None if simulated or self.anonymous else self._credentials())

    def _credentials(self) -> Any:
        require("google.auth", self.url)
        import google.auth
        import google.auth.exceptions

        scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]
        try:
            if "service_account" in self.options:
                return google.auth.load_credentials_from_file(self.options["service_account"], scopes)[0]  # type: ignore[no-untyped-call]
            return google.auth.default(scopes)[0]
        except (google.auth.exceptions.GoogleAuthError, OSError) as error:
            raise InputError(
                f"{self.url}: expected credentials of Google Cloud in the environment "
                f"(GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`), got none: "
                f"{' '.join(str(error).split())[:100]}"
            ) from None

    def store(self, prefix: str = "", *, often: bool = True) -> Any:
        signing: dict[str, Any] = {"skip_signature": True} if self.anonymous else {"credential_provider": self.token}
        return self.obstore.GCSStore(
            self.url.bucket,
            prefix=prefix or None,
            base_url=self.endpoint,
            client_options=client_of(self.options, self.endpoint),
            retry_config=retrying(often=often),
            **signing,
        )


class AzureConnection(Connection):
    """Azure Blob Storage."""

    def __init__(self, url: Url) -> None:
        super().__init__(url)
        told = {"account_name": "AZURE_STORAGE_ACCOUNT_NAME", "account_key": "AZURE_STORAGE_ACCOUNT_KEY"}
        told |= {"sas_token": "AZURE_STORAGE_SAS_TOKEN", "endpoint": "AZURE_STORAGE_ENDPOINT"}
        self.config = connection_string(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
        self.config |= {key: os.environ[name] for key, name in told.items() if os.environ.get(name)}
        self.config |= {key: value for key, value in self.options.items() if key in told}
        account = self.config.get("account_name")
        if account is None:
            raise InputError(
                f"{url}: expected an account of Azure in the environment (AZURE_STORAGE_ACCOUNT_NAME with "
                "AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING), got none; set it, or give "
                "--storage-option account_name=NAME (bigin.storage_options)"
            )
        self.endpoint = self.config.get("endpoint") or f"https://{account}.blob.core.windows.net"

    def store(self, prefix: str = "", *, often: bool = True) -> Any:
        names = {"sas_token": "sas_key"}
        config: dict[str, Any] = {names.get(key, key): value for key, value in self.config.items()}
        if self.anonymous:
            config["skip_signature"] = True
        return self.obstore.AzureStore(
            self.url.bucket,
            prefix=prefix or None,
            client_options=client_of(self.options, self.endpoint),
            retry_config=retrying(often=often),
            **config,
        )


def connection_string(text: str) -> dict[str, str]:
    """The account, its key and its endpoint in a connection string of Azure."""
    fields = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    names = {"AccountName": "account_name", "AccountKey": "account_key", "BlobEndpoint": "endpoint"}
    names["SharedAccessSignature"] = "sas_token"
    return {ours: fields[theirs] for theirs, ours in names.items() if fields.get(theirs)}


CONNECTIONS = {"s3": S3Connection, "gcs": GcsConnection, "azure": AzureConnection}


def connect(url: Url) -> Connection:
    """The way to a bucket; raises InputError where a package or the credentials are missing."""
    return CONNECTIONS[url.provider](url)
