"""Settings of an installation, from ``CLOUDBAKER_*`` variables. All state lives under `home`; two homes never meet."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class EngineSettings(BaseModel):
    """An engine that the operator has installed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: tuple[str, ...] = Field(min_length=1)
    """How it is started: the absolute path of the program, and arguments that always go before ours."""
    version: str = ""
    """As ``--version`` prints it; empty: the engine is asked."""
    pack_format: int = Field(0, ge=0, le=4)
    """Of the packs it writes; 0: as its version says."""
    folders: tuple[Path, ...] = ()
    """What it needs to read beside /usr. Everything else is hidden from it."""


class Settings(BaseSettings):
    """What an operator can set. Each field is the variable ``CLOUDBAKER_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="CLOUDBAKER_", env_nested_delimiter="__", frozen=True, extra="ignore")

    home: Path = Field(default_factory=lambda: platformdirs.user_data_path("cloudbaker"))
    """Folder of all state: catalog, objects, keys, logs, the service's record."""
    catalog_url: str = ""
    """SQLAlchemy URL of the catalog's core; empty: SQLite under `home`."""
    store_url: str = ""
    """Object store: ``folder:/path`` or ``s3://bucket/prefix``; empty: the folder ``objects`` under `home`."""
    store_encryption: str = Field("", pattern="^(|tink)$")
    """``tink``: objects of a folder store are encrypted on the disk, under keys of each tenant (docs/storage.md)."""
    store_key_uri: str = ""
    """Master key that wraps the tenants' keys: ``aws-kms://arn…``; empty: a key file in `keys`, made on first use."""
    s3_endpoint: str = ""
    """URL of an S3-compatible server; empty: Amazon's. Credentials and region come from boto3's own environment."""
    s3_encryption: str = Field("", pattern="^(|AES256|aws:kms)$")
    """Server-side encryption asked for with every object: ``AES256`` or ``aws:kms``; empty: as the bucket says."""
    s3_kms_key: str = ""
    """Key id or ARN for ``aws:kms``; empty: the account's default key."""
    tables_url: str = ""
    """Published tables: a folder, or ``s3://bucket/prefix`` (with `s3_endpoint`); empty: ``catalog/published`` under
    `home`."""
    ray_address: str = ""
    """Address of a Ray cluster; empty: a local Ray, or the one that ``cloudbaker up`` started."""
    prefect_api_url: str = ""
    """API of a Prefect server; empty: the one that ``cloudbaker up`` started, else Prefect's temporary one."""
    npm_prefix: Path = Field(default_factory=lambda: Path(sys.prefix) / "share" / "cloudbaker" / "npm")
    """Where ``cloudbaker setup`` puts npm packages (validator, three.js): they belong to the code, not to a home."""
    kernels_prefix: Path = Field(default_factory=lambda: Path(sys.prefix) / "share" / "cloudbaker" / "kernels")
    """Where ``cloudbaker setup`` puts compiled kernels of textures; like npm packages they belong to the code."""
    chromium: str = "/usr/bin/chromium"
    """Browser for previews."""
    engines: dict[str, EngineSettings] = {}
    """Engines by name, as JSON: ``{"godot-4.6": {"command": ["/opt/godot/godot"], "folders": ["/opt/godot"]}}``. They
    go before those on PATH and those of ``cloudbaker engines install``."""
    engines_prefix: Path = Field(default_factory=lambda: Path(sys.prefix) / "share" / "cloudbaker" / "engines")
    """Where ``cloudbaker engines install`` puts engines: like npm packages they belong to the code, not to a home."""
    recipes: Path | None = None
    """Folder of the operator's own recipes, looked at before the built-in ones."""
    policies: Path | None = None
    """Folder of the operator's own policies for mods; one that is named like a tenant holds for that tenant."""
    pricing: Path | None = None
    """Price table, a TOML file in the form of the one that comes with Cloud Baker (docs/quotas-and-billing.md)."""
    webhook_url: str = ""
    """Where events are posted to (docs/events.md); empty: nowhere."""
    webhook_secret: SecretStr = SecretStr("")
    """Key that they are signed with: ``whsec_`` and base64, or at least 16 bytes of text. Never printed or logged."""
    memory_bytes: int = Field(2 << 30, ge=64 << 20)
    """Memory limit of one sandboxed job, where its recipe does not say."""
    wall_seconds: float = Field(300.0, gt=0)
    """Hard wall clock of one sandboxed job, ended by SIGKILL, where its recipe does not say."""
    outer_sandbox: str = ""
    """Name of an outer sandbox (``gvisor``, ``container``) that an operator vouches for where Landlock is absent."""
    log_format: str = Field("console", pattern="^(console|json)$")
    log_level: str = "warning"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the catalog's core, the default filled in."""
        return self.catalog_url or f"sqlite:///{self.home / 'catalog' / 'catalog.db'}"

    @property
    def objects_url(self) -> str:
        """URL of the object store, the default filled in."""
        return self.store_url or f"folder:{self.home / 'objects'}"

    @property
    def published(self) -> str:
        """Folder or ``s3://`` URL of the published Delta tables, the default filled in."""
        return self.tables_url or str(self.home / "catalog" / "published")

    @property
    def keys(self) -> Path:
        """Folder of the signing keys (mode 700)."""
        return self.home / "keys"


_adopted: Settings | None = None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once. Tests and notebooks may call ``settings.cache_clear()``."""
    return _adopted or Settings()


def adopt(config: Settings | None) -> None:
    """Work under the settings of another process: a worker on another node has none of the driver's variables.

    None goes back to this process's own.
    """
    global _adopted  # noqa: PLW0603  one home per process
    _adopted = config
    settings.cache_clear()
