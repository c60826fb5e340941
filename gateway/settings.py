"""Every setting of the gateway, with its default. ``config/gateway.yaml`` documents each of them.

One frozen model a slice; a component receives its own slice and no more. Refuses unknown keys and values that cannot
work, with file, line and column (:mod:`gateway.source`). Reads no environment variable.
"""

import re
import unicodedata
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gateway.model.envelope import ListenerDirection, a_labels
from gateway.source import parse_duration, parse_size, read_yaml, validate


def _seconds(value: object) -> float:
    return parse_duration(value).total_seconds()  # a bare number, whole or not, does not say its unit


def _endpoint(value: object) -> object:
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError("is not HOST:PORT, e.g. 127.0.0.1:10025 or [::1]:25")
        return {"host": host.removeprefix("[").removesuffix("]"), "port": int(port)}
    return value


def _networks(value: object) -> object:
    if isinstance(value, list):
        return tuple(ip_network(str(item), strict=True) for item in value)
    return value


Size = Annotated[int, BeforeValidator(parse_size)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)]


class Slice(BaseModel):
    """Base of all slices: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Endpoint(Slice):
    """HOST:PORT."""

    host: str
    port: int = Field(ge=0, le=65535)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = Annotated[Endpoint, BeforeValidator(_endpoint)]


class NetworkSettings(Slice):
    """Who is inside."""

    internal_domains: tuple[str, ...] = ("city.example",)
    internal_networks: Networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    trusted_hosts: Networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

    @field_validator("internal_domains")
    @classmethod
    def _folded(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(a_labels(unicodedata.normalize("NFKC", domain).strip(".")) for domain in value)

    def is_internal(self, address: str) -> bool:
        """Is this address the city's own? ``*.city.example`` stands for every host below it; no domain is ours too."""
        domain = a_labels(address.rpartition("@")[2]) if "@" in address else ""
        if not domain or domain in self.internal_domains:
            return True
        return any(own.startswith("*.") and domain.endswith(own[1:]) for own in self.internal_domains)


class ListenerSettings(Slice):
    """One listening socket."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    address: Address
    direction: ListenerDirection = ListenerDirection.AUTO
    tls: Literal["none", "starttls", "implicit"] = "none"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    require_tls: bool = False
    proxy_protocol: bool = False

    @model_validator(mode="after")
    def _complete(self) -> "ListenerSettings":
        if self.tls != "none" and (self.tls_certificate is None or self.tls_key is None):
            raise ValueError(f"tls: {self.tls} needs tls_certificate and tls_key")
        if self.require_tls and self.tls == "none":
            raise ValueError("require_tls needs tls: starttls or implicit")
        return self


class SmtpSettings(Slice):
    """The SMTP front's behaviour and limits."""

    hostname: str = ""
    """Empty: the machine's fully qualified name."""
    max_message_size: Size = 150_000_000
    bare_newlines: Literal["refuse", "normalise"] = "refuse"
    max_connections: int = Field(default=1000, ge=1)
    max_connections_per_client: int = Field(default=200, ge=1)
    max_recipients: int = Field(default=10_000, ge=100)
    max_commands: int = Field(default=100_000, ge=10)
    max_errors: int = Field(default=20, ge=1)
    max_hops: int = Field(default=50, ge=1)
    idle_timeout: Seconds = 300.0
    data_timeout: Seconds = 180.0
    transaction_timeout: Seconds = 1800.0
    min_data_rate: Size = 200
    """Octets a second, averaged over the message after the first 30 s; slower senders get 421 4.4.2."""
    verdict_timeout: Seconds = 120.0
    drain_timeout: Seconds = 30.0


class NextHopSettings(Slice):
    """The mail server behind."""

    address: Address = Endpoint(host="127.0.0.1", port=10026)
    tls: Literal["none", "opportunistic", "verify"] = "none"
    tls_name: str = ""
    """Name that the certificate must carry; empty: the host of ``address``."""
    ca_file: Path | None = None
    xforward: bool = True
    connect_timeout: Seconds = 10.0
    command_timeout: Seconds = 60.0
    data_timeout: Seconds = 300.0
    """Wait for the reply after the final dot (RFC 5321 section 4.5.3.2.6 asks for 10 min of a sending client)."""
    pool_size: int = Field(default=50, ge=1)
    """Connections a worker at most."""
    idle_timeout: Seconds = 20.0
    max_uses: int = Field(default=1000, ge=1)
    """Transactions on one connection at most."""


class MilterListenerSettings(Slice):
    """One socket on which mail servers ask."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    address: str
    """``unix:PATH`` or ``HOST:PORT``."""
    mode: str = Field(default="0660", pattern=r"^0?[0-7]{3}$")
    """Of a unix socket."""
    group: str = ""
    """Of a unix socket: the mail server's; empty: ours."""
    direction: ListenerDirection = ListenerDirection.AUTO

    @field_validator("address")
    @classmethod
    def _somewhere(cls, value: str) -> str:
        if value.startswith("unix:"):
            if not value.removeprefix("unix:"):
                raise ValueError("names no path behind unix:")
        else:
            _endpoint(value)
        return value

    @property
    def path(self) -> Path | None:
        """Of a unix socket, else None."""
        return Path(self.address.removeprefix("unix:")) if self.address.startswith("unix:") else None

    @property
    def endpoint(self) -> Endpoint:
        """Of a TCP socket."""
        return Endpoint.model_validate(_endpoint(self.address))


class MilterSettings(Slice):
    """The milter front, for mail servers that ask rather than hand over."""

    listeners: tuple[MilterListenerSettings, ...] = ()
    command_timeout: Seconds = 20.0
    """For the answer to MAIL and RCPT; Postfix waits 30 s."""
    message_timeout: Seconds = 270.0
    """For the verdict and the changes; Postfix waits 300 s."""
    next_hop_asks: bool = False
    """The next hop asks us too: copies from the store carry a mark that lets them pass, once."""
    idle_timeout: Seconds = 3600.0
    max_connections: int = Field(default=1000, ge=1)


class SpoolSettings(Slice):
    """Where messages lie while they are looked at."""

    directory: Path = Path("var/spool")
    memory: Size = 256 * 1024
    """Messages up to this size stay in memory."""


class StoreSettings(Slice):
    """Where held mail and the outbox are kept."""

    directory: Path = Path("var/store")
    database: str = "sqlite"
    """``sqlite``: a file in ``directory``; or ``postgresql://USER@HOST:PORT/NAME``, without the password."""
    password_file: Path | None = None
    """PostgreSQL's password; None: in the environment (CIVICGATE_DATABASE_PASSWORD), or none is needed."""
    bodies: str = "local"
    """``local``: the folder ``bodies`` in ``directory``; or ``s3://BUCKET/PREFIX``."""
    s3_endpoint: str = ""
    """``https://HOST:PORT`` of an S3-compatible server; empty: Amazon's of the region."""
    s3_region: str = "us-east-1"
    s3_credentials_file: Path | None = None
    """In AWS's form (``[default]``, ``aws_access_key_id = …``); None: in the environment, by AWS's names."""
    key_file: Path = Path("var/store/body.key")
    """age identities (X25519) that open bodies; made on first start when missing."""

    @field_validator("database")
    @classmethod
    def _database(cls, value: str) -> str:
        if value == "sqlite":
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("postgresql", "postgres") or not parts.path.strip("/"):
            raise ValueError("is neither sqlite nor postgresql://USER@HOST:PORT/NAME")
        if parts.password is not None or "password" in parse_qs(parts.query):
            raise ValueError("must not hold the password: it belongs into password_file or the environment")
        return value

    @field_validator("bodies")
    @classmethod
    def _bodies(cls, value: str) -> str:
        if value != "local" and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?", value):
            raise ValueError("is neither local nor s3://BUCKET/PREFIX")
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("is not https://HOST:PORT")
        return value.rstrip("/")


class ClamdSettings(Slice):
    """The virus control."""

    address: str = "unix:var/clamd/clamd.sock"
    """``unix:PATH`` or ``HOST:PORT``."""
    config_file: Path | None = Path("deploy/clamd.conf")
    """clamd's own configuration, read to compare its limits with ours. Empty when clamd runs elsewhere."""
    connect_timeout: Seconds = 5.0
    scan_timeout: Seconds = 60.0
    connections: int = Field(default=8, ge=1)
    """Concurrent scans a worker at most; more wait."""
    breaker_failures: int = Field(default=5, ge=1)
    breaker_reset: Seconds = 10.0


class InspectionSettings(Slice):
    """Reading of messages: limits and where the work is done."""

    max_depth: int = Field(default=20, ge=2)
    max_parts: int = Field(default=1000, ge=10)
    max_header_bytes: Size = 1_048_576
    max_text: Size = 10_000_000
    """Octets of decoded text a part that are scanned; more is a finding."""
    inline: Size = 128 * 1024
    """Messages up to this size are inspected on the event loop; larger ones in an inspection process."""
    processes: int = Field(default=1, ge=1)
    """Inspection processes a worker."""
    process_memory: Size = 1024 * 1024 * 1024
    timeout: Seconds = 60.0
    attachments: bool = True
    """Read documents and archives; a message with one is then always inspected in an inspection process."""
    attachment_timeout: Seconds = 30.0
    """All attachments of a message; shorter than ``timeout``."""
    attachment_text: Size = 100_000_000
    """Characters of text from attachments that are scanned in a message; more is a finding."""
    archive_depth: int = Field(default=8, ge=1, le=50)
    archive_members: int = Field(default=10_000, ge=1)
    archive_expansion: int = Field(default=200, ge=2)
    archive_unpacked: Size = 500_000_000
    ocr: bool = False
    """Read the words in pictures and on scanned pages through tesseract, in a queue of their own."""
    ocr_timeout: Seconds = 20.0
    """All pictures of a message, apart from ``attachment_timeout``."""
    ocr_languages: str = Field(default="eng", pattern=r"^[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*$")
    ocr_pixels: Size = 40_000_000
    """A picture of more is a finding."""
    ocr_pages: int = Field(default=20, ge=1)
    """Pictures and pages a message; more is a finding."""
    rescan_octets: Size = 100_000_000
    """Octets of a message that clamd is given apart, since it does not see them in the message; more is a failure."""
    rescan_files: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _in_time(self) -> "InspectionSettings":
        if self.ocr and self.attachment_timeout + self.ocr_timeout >= self.timeout:
            raise ValueError("timeout must be longer than attachment_timeout and ocr_timeout together")
        return self


class EncryptionSettings(Slice):
    """S/MIME to the outside."""

    certificates: Path = Path("var/certificates")
    """Folder of ``ADDRESS.pem`` / ``@DOMAIN.pem`` recipient certificates."""
    openssl: str = "openssl"
    timeout: Seconds = 60.0


class HoldSettings(Slice):
    """Held mail."""

    expires_after: Duration = timedelta(hours=48)
    fallback_role: str = "it-director"
    """Who decides when a rule names no role, or nobody holds the role."""
    remind_after: Duration | None = timedelta(hours=24)
    """When approvers are reminded, where the rule does not say; None: never."""


class OutboxSettings(Slice):
    """Durable delivery from the store."""

    poll_interval: Seconds = 1.0
    claim_timeout: Seconds = 300.0
    retry_first: Seconds = 30.0
    retry_longest: Seconds = 3600.0
    give_up_after: Duration = timedelta(days=5)
    concurrency: int = Field(default=10, ge=1)


class NoticeSettings(Slice):
    """Mail that the gateway writes itself."""

    sender: str = ""
    """From of notices; empty: ``civicgate@`` the first internal domain."""
    templates: Path = Path("config/templates")
    transfer_service: str = "https://files.city.example"
    """The alternative named to who sends too large a message."""
    city_name: str = "City of Example"
    outside: Literal["all", "returns", "none"] = "all"
    """What senders of mail from outside are told about a message that is held: their names may be forged."""


class MetricsSettings(Slice):
    """Prometheus."""

    address: Address = Endpoint(host="127.0.0.1", port=9464)
    directory: Path = Path("var/metrics")
    """Where worker processes leave their values."""


class LogSettings(Slice):
    """One line a message on standard error."""

    format: Literal["keyvalue", "json"] = "keyvalue"
    level: Literal["debug", "info", "warning", "error"] = "info"


class OidcSettings(Slice):
    """Login through an identity provider (OpenID Connect). Off while ``issuer`` is empty."""

    issuer: str = ""
    """https://… as the provider's discovery document says it, to the letter."""
    client_id: str = ""
    client_secret_file: Path | None = None
    """A file with the secret alone; none for a public client."""
    ca_file: Path | None = None
    """PEM file of the authority behind the provider's certificate, when the machine does not know it."""
    name: str = "your city account"
    """What the button on the login page says behind «Log in with»."""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    address_claim: str = "email"
    """The claim with the person's address."""
    verified_claim: str = "email_verified"
    """The claim that must be true, or the address is refused; empty: every address of this issuer is believed."""
    roles_claim: str = ""
    """Dotted path of the claim that lists groups or roles, e.g. ``realm_access.roles``; empty: the directory alone."""
    roles: dict[str, tuple[str, ...]] = {}
    """Value of that claim -> roles of ours."""
    known_people_only: bool = True
    """Refuse who is not in the directory."""
    timeout: Seconds = 10.0

    @field_validator("issuer")
    @classmethod
    def _safe(cls, value: str) -> str:
        parts = urlsplit(value)
        here = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if value and not (parts.scheme == "https" or (parts.scheme == "http" and here)):
            raise ValueError("is not an https:// address")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "OidcSettings":
        if self.issuer and not self.client_id:
            raise ValueError("issuer needs client_id")
        if "openid" not in self.scopes:
            raise ValueError("scopes must contain openid")
        return self


class ConsoleSettings(Slice):
    """The web console."""

    enabled: bool = True
    address: Address = Endpoint(host="127.0.0.1", port=8480)
    base_url: str = ""
    """What people type, with the path under which a proxy shows it; empty: http:// and ``address``."""
    trusted_proxies: Networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    """Whose X-Forwarded-For is believed."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    admin_role: str = "it-director"
    session_idle: Seconds = 1800.0
    session_lifetime: Duration = timedelta(hours=12)
    password_length: int = Field(default=12, ge=8, le=128)
    totp_roles: tuple[str, ...] = ()
    """Local accounts of people with one of these roles must have a second factor; ``*``: all."""
    login_attempts: int = Field(default=5, ge=1)
    """Wrong passwords in a row before waits begin, for an account and for a client address."""
    login_wait: Seconds = 900.0
    """Longest wait between two attempts; they begin at 1 s and double."""
    max_request: Size = 1_000_000
    oidc: OidcSettings = OidcSettings()

    @field_validator("base_url")
    @classmethod
    def _plain(cls, value: str) -> str:
        parts = urlsplit(value)
        odd = parts.query or parts.fragment or parts.username or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", parts.path)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or odd):
            raise ValueError("is not an address like https://mail.city.example/civicgate")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _complete(self) -> "ConsoleSettings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        return self

    @property
    def url(self) -> str:
        """Where people reach it, without a slash at the end."""
        return self.base_url or f"{'https' if self.tls_certificate else 'http'}://{self.address}"

    @property
    def path_prefix(self) -> str:
        """The path of :attr:`url`: ``""`` or ``/civicgate``."""
        return urlsplit(self.url).path

    @property
    def secure(self) -> bool:
        """People reach it by https."""
        return self.url.startswith("https:")


class PolicySettings(Slice):
    """Where the policy is written."""

    rules: Path = Path("rules")
    directory: Path = Path("config/directory.yaml")
    clauses: Path = Path("config/clauses.yaml")
    """Texts of the clauses that rules name, for people."""
    profile: Path | None = None
    """What one city wants otherwise of the rules; None: as they are written."""


class Settings(Slice):
    """The whole of ``gateway.yaml``."""

    workers: int = Field(default=2, ge=0, le=128)
    """Processes on the same port; 0: one a core."""
    listeners: tuple[ListenerSettings, ...] = (
        ListenerSettings(name="proxy", address=Endpoint(host="127.0.0.1", port=10025)),
    )
    network: NetworkSettings = NetworkSettings()
    smtp: SmtpSettings = SmtpSettings()
    milter: MilterSettings = MilterSettings()
    next_hop: NextHopSettings = NextHopSettings()
    spool: SpoolSettings = SpoolSettings()
    store: StoreSettings = StoreSettings()
    clamd: ClamdSettings = ClamdSettings()
    inspection: InspectionSettings = InspectionSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    hold: HoldSettings = HoldSettings()
    outbox: OutboxSettings = OutboxSettings()
    notices: NoticeSettings = NoticeSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    console: ConsoleSettings = ConsoleSettings()
    policy: PolicySettings = PolicySettings()

    @field_validator("listeners")
    @classmethod
    def _named_apart(cls, value: tuple[ListenerSettings, ...]) -> tuple[ListenerSettings, ...]:
        names = [listener.name for listener in value]
        twice = [name for number, name in enumerate(names) if name in names[:number]]
        if twice:
            raise ValueError(f"two are named «{twice[0]}»")
        return value

    @model_validator(mode="after")
    def _somewhere_to_listen(self) -> "Settings":
        if not self.listeners and not self.milter.listeners:
            raise ValueError("listeners: at least one is needed, here or under milter")
        names = [*(one.name for one in self.listeners), *(one.name for one in self.milter.listeners)]
        twice = [name for number, name in enumerate(names) if name in names[:number]]
        if twice:
            raise ValueError(f"milter.listeners: two listeners are named «{twice[0]}»")
        return self


def load_settings(path: Path) -> Settings:
    """Read ``gateway.yaml``. Relative paths stay relative to the working directory. Raises ConfigErrors."""
    return validate(read_yaml(path), Settings)


def default_values(model: type[BaseModel] = Settings) -> dict[str, Any]:
    """Every setting with its default, as plain data (for the docs test)."""
    return model().model_dump(mode="json")
