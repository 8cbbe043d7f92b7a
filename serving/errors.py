"""Everything that can go wrong, as one tree of facts. HTTP and gRPC know them in a table each:
gateway/errors.py, gateway/rpc/statuses.py.

TidegateError
├── InvalidInput                the caller can mend the request
│   ├── BodyInvalid             not the JSON or the multipart that was announced
│   ├── ParameterInvalid        a parameter is missing, of the wrong type or out of range
│   ├── TensorInvalid           a tensor does not fit the model's signature
│   ├── ImageInvalid            not a picture, damaged, or of a kind that is not accepted
│   │   └── ImageTooLarge       more pixels than are accepted
│   ├── TextInvalid             empty, too long, or not UTF-8
│   ├── VectorInvalid           other dimensions than its space has, not finite, or of no length
│   └── TruthInvalid            a truth that the answer cannot be held against
├── BodyTooLarge                more bytes than are accepted
├── MediaTypeUnsupported        a content type or encoding that is not accepted
├── NotAcceptable               there is no answer of the type that is asked for
├── NotFound
│   ├── ModelNotFound           no such model
│   ├── VersionNotFound         the model has no such version, or it is not loaded
│   ├── CollectionNotFound      no such collection
│   ├── ItemNotFound            the collection has no such item
│   ├── JobNotFound             no such job of this caller's, or its time is over
│   ├── AnswerNotFound          no such answer to this caller is remembered, or none that takes truths
│   └── RouteNotFound           no such path
├── MethodNotAllowed            the path exists, the method does not
├── Unauthorized                no key, or none that is known here
├── Forbidden                   the key is for other things
├── Throttled                   to be tried again after a time that is said
│   ├── TooManyAttempts         many wrong keys came from one address
│   ├── QuotaExceeded           the key has used up what it may
│   └── JobsFull                as many jobs wait as may wait
├── TaskMismatch                the model does another task
├── ModelAmbiguous              several models would do and none was named
├── KeyReused                   another request came with the same Idempotency-Key
├── TruthGiven                  another truth was given for the same answer
├── ModelNotReady               the model is known and has no version that could be loaded
├── ChangeRefused               as things stand, this change cannot be made
│   ├── CollectionExists        the name is taken by a collection of another model
│   ├── GateFailed              the version may not go live; the verdict says why
│   └── LoadFailed              a gateway cannot load the version, so no pointer moved
├── LedgerUnavailable           pointers cannot be changed now; inference goes on
├── IndexUnavailable            collections cannot be reached; all else goes on
├── JobsUnavailable             jobs cannot be reached; all else goes on
├── Busy                        try again later
│   ├── QueueFull               as many are waiting as may wait
│   └── ShuttingDown            this gateway drains
├── DeadlinePassed              the answer would come too late
├── OutputInvalid               the model's answer cannot be used (NaN, wrong shape)
├── EngineFailed                the engine broke down over a run
│   └── EngineAway              the server that runs the models cannot be reached, or is loading anew
├── RepositoryInvalid           a file of the model repository is wrong: which, where, what was expected
└── SettingsInvalid             the gateway was started with settings that cannot hold
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class TidegateError(Exception):
    """A failure with a stable code, a detail for this case and what to do about it.

    `detail` and `remedy` reach callers as they are: never a path, a host or a traceback in them. `extension`: more
    members for the answer's JSON (RFC 9457, 3.2). `of`: the model and version that met it, where one was reached; for
    logs.
    """

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"
    of: tuple[str, int] | None = None

    def __init__(self, detail: str, *, remedy: str = "", extension: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
        self.extension = extension or {}

    def __str__(self) -> str:
        if self.remedy and not self.detail.endswith((".", "?", "!")):
            return f"{self.detail}. {self.remedy}"
        return f"{self.detail} {self.remedy}".strip()


class InvalidInput(TidegateError):
    code = "input_invalid"
    title = "The request cannot be used"


class BodyInvalid(InvalidInput):
    code = "body_invalid"
    title = "The body cannot be read"


class ParameterInvalid(InvalidInput):
    code = "parameter_invalid"
    title = "A parameter is wrong"


class TensorInvalid(InvalidInput):
    code = "tensor_invalid"
    title = "A tensor does not fit the model"


class ImageInvalid(InvalidInput):
    code = "image_invalid"
    title = "The image cannot be read"


class ImageTooLarge(ImageInvalid):
    code = "image_too_large"
    title = "The image has too many pixels"


class TextInvalid(InvalidInput):
    code = "text_invalid"
    title = "The text cannot be used"


class VectorInvalid(InvalidInput):
    code = "vector_invalid"
    title = "The vector cannot be used"


class TruthInvalid(InvalidInput):
    code = "truth_invalid"
    title = "The truth cannot be used"


class BodyTooLarge(TidegateError):
    code = "body_too_large"
    title = "The body is too large"


class MediaTypeUnsupported(TidegateError):
    code = "media_type_unsupported"
    title = "The content type is not accepted"


class NotAcceptable(TidegateError):
    code = "not_acceptable"
    title = "There is no answer of the type that is asked for"


class NotFound(TidegateError):
    code = "not_found"
    title = "Not found"


class ModelNotFound(NotFound):
    code = "model_not_found"
    title = "No such model"


class VersionNotFound(NotFound):
    code = "version_not_found"
    title = "No such version"


class CollectionNotFound(NotFound):
    code = "collection_not_found"
    title = "No such collection"


class ItemNotFound(NotFound):
    code = "item_not_found"
    title = "No such item"


class JobNotFound(NotFound):
    code = "job_not_found"
    title = "No such job"


class AnswerNotFound(NotFound):
    code = "answer_not_found"
    title = "No such answer is remembered"


class RouteNotFound(NotFound):
    code = "route_not_found"
    title = "No such path"


class MethodNotAllowed(TidegateError):
    code = "method_not_allowed"
    title = "The method is not allowed here"


class Unauthorized(TidegateError):
    code = "unauthorized"
    title = "A key is needed"


class Forbidden(TidegateError):
    code = "forbidden"
    title = "Not allowed"


class Throttled(TidegateError):
    """wait_s: whole seconds until another try is looked at."""

    code = "throttled"
    title = "Too many requests"

    def __init__(self, detail: str, *, remedy: str = "", wait_s: int = 60) -> None:
        super().__init__(detail, remedy=remedy)
        self.wait_s = wait_s


class TooManyAttempts(Throttled):
    code = "too_many_attempts"
    title = "Too many wrong keys"


class QuotaExceeded(Throttled):
    code = "quota_exceeded"
    title = "The key has used up what it may"


class JobsFull(Throttled):
    code = "jobs_full"
    title = "Too many jobs wait"


class TaskMismatch(TidegateError):
    code = "task_mismatch"
    title = "The model does another task"


class ModelAmbiguous(TidegateError):
    code = "model_ambiguous"
    title = "Several models could answer"


class KeyReused(TidegateError):
    code = "idempotency_key_reused"
    title = "The Idempotency-Key belongs to another request"


class TruthGiven(TidegateError):
    code = "truth_given"
    title = "Another truth was given before"


class ModelNotReady(TidegateError):
    code = "model_not_ready"
    title = "The model is not ready"


class ChangeRefused(TidegateError):
    code = "change_refused"
    title = "The change cannot be made"


class CollectionExists(ChangeRefused):
    code = "collection_exists"
    title = "There is another collection of that name"


class GateFailed(ChangeRefused):
    """`extension`: the verdict, beside what every problem has."""

    code = "gate_failed"
    title = "The version did not pass the gate"


class LoadFailed(ChangeRefused):
    code = "load_failed"
    title = "The version cannot be loaded"


class LedgerUnavailable(TidegateError):
    code = "ledger_unavailable"
    title = "Pointers cannot be changed now"


class IndexUnavailable(TidegateError):
    code = "index_unavailable"
    title = "Collections cannot be reached now"


class JobsUnavailable(TidegateError):
    code = "jobs_unavailable"
    title = "Jobs cannot be reached now"


class Busy(TidegateError):
    code = "busy"
    title = "Too busy"


class QueueFull(Busy):
    code = "queue_full"
    title = "The queue is full"


class ShuttingDown(Busy):
    code = "shutting_down"
    title = "This gateway is shutting down"


class DeadlinePassed(TidegateError):
    code = "deadline_passed"
    title = "The deadline has passed"


class OutputInvalid(TidegateError):
    code = "model_output_invalid"
    title = "The model's output cannot be used"


class EngineFailed(TidegateError):
    code = "engine_failed"
    title = "The engine failed"


class EngineAway(EngineFailed):
    code = "engine_unavailable"
    title = "The engine is not there"


class RepositoryInvalid(TidegateError):
    """A file of the repository is wrong. Read by operators, so it names the file.

    file: path relative to the repository; field: where in it; expected: what should stand there.
    """

    code = "repository_invalid"
    title = "The model repository has an error"

    def __init__(self, file: str, field: str, expected: str, *, remedy: str = "") -> None:
        where = f"{file}: {field}" if field else file
        super().__init__(f"{where}: {expected}", remedy=remedy)
        self.file = file
        self.field = field
        self.expected = expected


class SettingsInvalid(TidegateError):
    code = "settings_invalid"
    title = "The settings cannot hold"
