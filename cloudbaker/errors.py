"""Every error Cloud Baker raises on purpose, with a code, a remedy and a page under ``docs/errors``.

    CloudBakerError
    ├── UsageError            CB1xxx   exit 2   the call is wrong: a name, a path, an option, a recipe
    │   ├── NameRefused       CB1001            (ValueError)
    │   ├── RecipeError       CB1101            (ValueError)
    │   ├── PolicyError       CB1102            (ValueError)
    │   ├── SourceUnreadable  CB1201            (OSError)
    │   ├── NotFound          CB1301            (LookupError)
    │   └── SigningKeyError   CB1401
    ├── ContentRejected       CB2001   exit 3   the content did not pass; the findings say why
    ├── LimitExceeded         CB3xxx   exit 4   a limit or a quota was hit
    │   ├── SandboxLimit      CB3001            memory, CPU, wall clock, file size
    │   └── QuotaExceeded     CB3101
    ├── Quarantined           CB4001   exit 5   a bulk run finished with quarantined items
    ├── IsolationUnavailable  CB5001   exit 1   the kernel can't isolate untrusted work
    ├── SandboxCrash          CB5002   exit 1   the job's process died
    ├── SandboxJobError       CB5003   exit 1   the job raised; it was not the content's fault as far as we know
    ├── ToolMissing           CB5101   exit 1   an external part is not installed
    │   ├── EngineMissing     CB5102            the engine that a recipe asks for is not installed
    │   └── KernelsMissing    CB5104            texture kernels are not compiled, and cannot be from here
    ├── EngineFailed          CB5103   exit 1   an engine did not do what it was asked, through no fault of the content
    ├── ComputeUnavailable    CB5201   exit 1   Ray can't be reached or lost the work (retryable)
    ├── CatalogError          CB6001   exit 1
    │   ├── Conflict          CB6101            somebody else was first (retryable)
    │   │   └── InUse         CB6103   exit 2   it is still needed: nothing is deleted
    │   ├── IdempotencyMismatch CB6102          same key, other request
    │   ├── CatalogTooNew     CB6201
    │   ├── CatalogUnavailable CB6202           the database can't be reached, or dropped the connection (retryable)
    │   ├── CatalogReplaced   CB6203            the core is not the one that its tables were published from
    │   ├── StoreError        CB6301            the object store failed (OSError, retryable)
    │   │   ├── StoreAccess   CB6302            credentials, bucket, permission: it refuses us (not retryable)
    │   │   ├── StoreDamaged  CB6303            bytes are not what was stored (not retryable)
    │   │   └── StoreKeyError CB6304            the key that encrypts it is missing or another one (not retryable)
    │   └── SinkUnavailable   CB6401            nobody can be told of events now (retryable)
    ├── SignatureInvalid      CB7001   exit 3   a package is not what its signature says
    └── Cancelled             CB9001   exit 130 stopped on request

Bad content is not an exception inside the pipeline: it is a verdict with findings. `ContentRejected` exists only
at the front door, so that ``cb.bake`` in a notebook does not return as if all went well.
"""

from __future__ import annotations

from typing import Any, ClassVar

DOCS = "docs/errors"


class CloudBakerError(Exception):
    """Base of all deliberate errors.

    `message` is public and names the remedy. `detail` is for logs only: it may hold paths, stack traces or bytes of
    the content, and never reaches a user of another tenant.
    """

    code: ClassVar[str] = "CB0001"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, detail: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.facts = facts
        """Machine-readable facts (limit, value, path …) for ``--json``; JSON-serialisable."""

    @property
    def page(self) -> str:
        """Where the error is explained, relative to the repository."""
        return f"{DOCS}/{self.code}.md"

    def to_json(self) -> dict[str, Any]:
        """The documented ``--json`` form: code, message, retryable, page and the facts."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "page": self.page,
            **({"facts": self.facts} if self.facts else {}),
        }

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders (Ray, the sandbox): keyword-only arguments need their own way through pickle.
        return _rebuild, (type(self), self.message, self.detail, self.facts)


def _rebuild(cls: type[CloudBakerError], message: str, detail: str | None, facts: dict[str, Any]) -> CloudBakerError:
    return cls(message, detail=detail, **facts)


class UsageError(CloudBakerError):
    """The call itself is wrong."""

    code = "CB1000"
    exit_code = 2


class NameRefused(UsageError, ValueError):
    """A tenant, project, asset or channel name breaks the naming rule."""

    code = "CB1001"


class RecipeError(UsageError, ValueError):
    """A recipe is unknown or does not pass its schema."""

    code = "CB1101"


class PolicyError(UsageError, ValueError):
    """A policy for mods is unknown or does not pass its schema."""

    code = "CB1102"


class SourceUnreadable(UsageError, OSError):
    """A source path can't be read: missing, a folder without a model, no permission."""

    code = "CB1201"


class NotFound(UsageError, LookupError):
    """No such tenant, asset, version, channel or run."""

    code = "CB1301"


class SigningKeyError(UsageError):
    """A signing key is missing, malformed or readable by others."""

    code = "CB1401"


class ContentRejected(CloudBakerError):
    """The content did not pass validation; `facts["findings"]` says why."""

    code = "CB2001"
    exit_code = 3


class LimitExceeded(CloudBakerError):
    """A limit was hit."""

    code = "CB3000"
    exit_code = 4


class SandboxLimit(LimitExceeded):
    """A sandboxed job hit a limit; `facts["limit"]` is ``memory``, ``cpu``, ``wall`` or ``file_size``."""

    code = "CB3001"


class QuotaExceeded(LimitExceeded):
    """The tenant's quota would be passed."""

    code = "CB3101"


class Quarantined(CloudBakerError):
    """A bulk run ended, and some assets went into quarantine."""

    code = "CB4001"
    exit_code = 5


class IsolationUnavailable(CloudBakerError):
    """This kernel can't isolate untrusted work."""

    code = "CB5001"


class SandboxCrash(CloudBakerError):
    """The process of a sandboxed job died by a signal that was no limit."""

    code = "CB5002"


class SandboxJobError(CloudBakerError):
    """A sandboxed job raised an exception."""

    code = "CB5003"


class ToolMissing(CloudBakerError):
    """An external part (Chromium, bubblewrap, an npm package) is not installed."""

    code = "CB5101"


class EngineMissing(ToolMissing):
    """The engine that a recipe asks for is not installed, or does not start."""

    code = "CB5102"


class KernelsMissing(ToolMissing):
    """The texture kernels are not compiled, and can't be from here."""

    code = "CB5104"


class EngineFailed(CloudBakerError):
    """An engine did not do what it was asked, and the content is not to blame as far as we know."""

    code = "CB5103"


class ComputeUnavailable(CloudBakerError):
    """Ray can't be reached, or a worker was lost with its work."""

    code = "CB5201"
    retryable = True


class CatalogError(CloudBakerError):
    """The catalog refused or failed."""

    code = "CB6001"


class Conflict(CatalogError):
    """A concurrent writer was first; look again and retry."""

    code = "CB6101"
    retryable = True


class InUse(Conflict):
    """It can't be deleted, since something still needs it; trying again does not help."""

    code = "CB6103"
    exit_code = 2
    retryable = False


class IdempotencyMismatch(CatalogError):
    """An idempotency key was used before, for a different request."""

    code = "CB6102"


class CatalogTooNew(CatalogError):
    """The catalog was written by a newer release."""

    code = "CB6201"


class CatalogUnavailable(CatalogError):
    """The catalog's database can't be reached, or dropped the connection."""

    code = "CB6202"
    retryable = True


class CatalogReplaced(CatalogError):
    """The core is not the one that the published tables were written from."""

    code = "CB6203"


class StoreError(CatalogError, OSError):
    """The object store failed."""

    code = "CB6301"
    retryable = True


class StoreAccess(StoreError):
    """The object store refuses us: no or wrong credentials, no such bucket, no permission."""

    code = "CB6302"
    retryable = False


class StoreDamaged(StoreError):
    """Stored bytes are not those that were put there."""

    code = "CB6303"
    retryable = False


class StoreKeyError(StoreError):
    """The key that objects are encrypted with is missing, or is another one."""

    code = "CB6304"
    retryable = False


class SinkUnavailable(CatalogError):
    """A receiver of events can't be reached; they wait, and none is lost."""

    code = "CB6401"
    retryable = True


class SignatureInvalid(CloudBakerError):
    """A signature, or a hash under it, does not match."""

    code = "CB7001"
    exit_code = 3


class Cancelled(CloudBakerError):
    """Stopped on request."""

    code = "CB9001"
    exit_code = 130
