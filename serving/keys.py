"""API keys: who may call, and what for. A file of their digests, and the live view that a running gateway has of it.

A key is 256 random bits, so its plain SHA-256 gives nothing away: there is no dictionary to try. It is shown once, when
it is made; the file, logs, metrics and errors never have it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.atomic_file import locked, replace_file
from serving.errors import NotFound, SettingsInvalid

log = logging.getLogger(__name__)

KeyScope: TypeAlias = Literal["predict", "admin", "metrics"]
SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
KEY: Final = re.compile(rb"tg_[A-Za-z0-9_-]{43}")  # a prefix that scanners of leaked secrets can look for
FILE: Final = "keys.json"
LEAST_RATE: Final = 1e-5  # about one request a day, so that a wait is a number of seconds that clients can read
REFRESH_S: Final = 0.9  # so that a change is seen within a second


class Key(BaseModel):
    """What is known of a key: everything but the key."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    scopes: Annotated[tuple[KeyScope, ...], Field(min_length=1)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]
    created: AwareDatetime
    rate: Annotated[float, Field(ge=LEAST_RATE, allow_inf_nan=False, description="requests a second")] | None = None
    concurrency: Annotated[int, Field(ge=1, description="requests at once")] | None = None


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)
    schema_: Literal[1] = Field(default=1, alias="schema")
    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> _Keys:
        for field in ("name", "digest"):
            ((_, most),) = Counter(getattr(key, field) for key in self.keys).most_common(1) or [("", 0)]
            if most > 1:
                raise ValueError(f"two keys have the same {field}")
        return self


def make_key() -> str:
    """A fresh key."""
    return "tg_" + secrets.token_urlsafe(32)


def digest_of(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


class KeyFile:
    """The keys in a file, mode 0600: replaced atomically under a lock and synced.

    SettingsInvalid when it is damaged or cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Key, ...]:
        """All keys, none where there is no file. Reads do not lock: a rename gives them the old file or the new one."""
        try:
            return _Keys.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return ()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "keys"
            remedy = "Mend it, or move it away and make new keys with `tidegate keys add`."
            raise SettingsInvalid(f"{self.path}: {field}: {first['msg']}.", remedy=remedy) from None
        except OSError as error:
            raise self._unusable(error) from None

    def stamp(self) -> object:
        """Another one whenever the file has changed; None while there is none."""
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

    def add(
        self, name: str, scopes: Sequence[KeyScope], *, rate: float | None = None, concurrency: int | None = None
    ) -> tuple[str, Key]:
        """Makes a key: itself, to be shown once, and what is kept. SettingsInvalid when the name is taken.

        rate: requests a second; concurrency: requests at once; None for as many as come.
        """
        with self._locked():
            keys = self.read()
            if any(key.name == name for key in keys):
                remedy = "Choose another name, or revoke that key first."
                raise SettingsInvalid(f"{self.path}: there is a key named {name} already.", remedy=remedy)
            secret = make_key()
            key = Key(
                name=name,
                scopes=tuple(scope for scope in SCOPES if scope in scopes),
                digest=digest_of(secret.encode()).hex(),
                created=datetime.now(UTC).replace(microsecond=0),
                rate=rate,
                concurrency=concurrency,
            )
            self._write((*keys, key))
        return secret, key

    def revoke(self, name: str) -> None:
        """Takes a key away. NotFound when there is none of that name."""
        with self._locked():
            keys = self.read()
            left = tuple(key for key in keys if key.name != name)
            if len(left) == len(keys):
                remedy = "`tidegate keys list` shows what there is."
                raise NotFound(f"{self.path}: there is no key named {name}.", remedy=remedy)
            self._write(left)

    def _write(self, keys: tuple[Key, ...]) -> None:
        text = _Keys(keys=keys).model_dump_json(by_alias=True, indent=2, exclude_none=True) + "\n"
        try:
            replace_file(self.path.resolve(), text, mode=0o600)  # a link stays one
        except OSError as error:
            raise self._unusable(error) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, over processes too."""
        path = self.path.resolve()
        with ExitStack() as lock:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock.enter_context(locked(path.with_name(f".{path.name}.lock")))
            except OSError as error:
                raise self._unusable(error) from None
            yield

    def _unusable(self, error: OSError) -> SettingsInvalid:
        reason = error.strerror or "it cannot be used"
        return SettingsInvalid(f"The key file {self.path}: {reason}.", remedy="Name another with --keys.")


class Keyring:
    """The keys that a gateway takes, at most a second behind its file.

    SettingsInvalid when the file is damaged to begin with. One that is damaged or gone later leaves the keys as they
    were; one with no keys left lets nobody in. Only a gateway that has never seen a key needs none.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = KeyFile(path)
        self._clock = clock
        self._due_s = clock() + REFRESH_S
        self._stamp = self._file.stamp()
        self._take(self._file.read())
        self._required = bool(self._keys)

    @property
    def required(self) -> bool:
        """Whether requests need a key now. Looks at the file when it is time to."""
        now_s = self._clock()
        if now_s >= self._due_s:
            self._due_s = now_s + REFRESH_S
            self._refresh()
        return self._required

    def find(self, secret: bytes) -> Key | None:
        """What is known of this key, if it is one of ours. Takes as long for a stranger's as for a known one."""
        digest = digest_of(secret)
        kept, key = self._keys.get(digest, _NOBODY)
        return key if hmac.compare_digest(kept, digest) else None

    def _take(self, keys: Sequence[Key]) -> None:
        self._keys = _by_digest(keys)
        self.names = frozenset(key.name for key in keys)

    def _refresh(self) -> None:
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if stamp is None:
            log.error("the key file %s is gone: the keys stay as they were", self._file.path)
            return
        try:
            self._take(self._file.read())
        except SettingsInvalid as error:
            log.error("the keys stay as they were: %s", error)  # noqa: TRY400  (the message says it all)
            return
        self._required = self._required or bool(self._keys)
        log.info("keys were read anew: there are %d", len(self._keys))


_NOBODY: Final[tuple[bytes, Key | None]] = (bytes(32), None)


def _by_digest(keys: Sequence[Key]) -> Mapping[bytes, tuple[bytes, Key | None]]:
    table = {bytes.fromhex(key.digest): key for key in keys}
    return {digest: (digest, key) for digest, key in table.items()}
