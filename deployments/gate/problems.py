"""The gate's answers to requests that it refuses: JSON that says what to do, without secrets."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.errors import (
    AnalysisError,
    AssetChangedError,
    AssetGoneError,
    CatalogBusyError,
    CatalogError,
    DamDedupError,
    FilterError,
    ImageError,
    ModelError,
    SettingsError,
    SourceError,
    TransientSourceError,
)

_LOGGED = "The program has logged why; tell whoever runs it"


class Problem(Exception):  # noqa: N818 - it is an answer, and named like one
    """A refusal, raised where it is found and sent as the answer.

    Attributes:
        status: the HTTP status.
        error: a short, stable code.
        detail: what happened.
        remedy: what to do about it.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        error: str,
        detail: str,
        remedy: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.error, self.detail, self.remedy = status, error, detail, remedy
        self.headers = dict(headers or {})

    @property
    def document(self) -> dict[str, str]:
        """The answer's body."""
        detail = self.detail.encode("utf-8", "backslashreplace").decode()
        return {"error": self.error, "detail": detail, "remedy": self.remedy}


def busy(what: str, seconds: int = 1) -> Problem:
    """The answer when too many requests wait: 429, with the time after which to try again."""
    return Problem(
        429,
        "busy",
        what,
        f"Try again in {seconds} s, with fewer requests at once",
        {"Retry-After": str(seconds)},
    )


def wrong(detail: str, remedy: str) -> Problem:
    """The answer to a request that cannot be understood: 400."""
    return Problem(400, "wrong_request", detail, remedy)


def problem_of(error: BaseException) -> Problem:
    """The answer to an error. Of an unexpected one it tells nothing but that it happened."""
    match error:
        case Problem():
            return error
        case ImageError():
            remedy = f"Send an image in a format that is read here ({error.reason})"
            return Problem(422, "no_picture", str(error), remedy)
        case AnalysisError():
            return Problem(422, "wrong_analysis", str(error), "Send the image to /analyze again")
        case SettingsError():  # about a key, a name or a source that the caller sent
            return wrong(str(error), "Correct the request")
        case UnicodeError():
            return wrong("a text holds what is no character", "Send valid UTF-8")
        case FilterError():
            return Problem(400, "wrong_filter", str(error), "Correct the filter")
        case AssetGoneError():
            return Problem(404, "not_found", str(error), "Name an asset that is there")
        case CatalogBusyError():
            return Problem(
                503,
                "catalog_busy",
                "another process is writing to the catalog",
                "Try again in a minute",
                {"Retry-After": "60"},
            )
        case AssetChangedError():
            return Problem(409, "changed", str(error), "Analyse the object as it is now")
        case TransientSourceError():
            return Problem(
                503, "source_busy", str(error), "Try again in a minute", {"Retry-After": "60"}
            )
        case SourceError():
            return Problem(422, "source_refused", str(error), "Name something that can be read")
        case ModelError():
            return Problem(503, "no_model", "the embedding model cannot be used", _LOGGED)
        case CatalogError():
            return Problem(500, "failed", "the gate cannot do this as it is set up", _LOGGED)
        case DamDedupError():
            return Problem(422, "refused", str(error), "Correct the request")
        case TimeoutError():
            remedy = "Try again; if it happens often, raise DAM_DEDUP_GATE__REQUEST_SECONDS"
            return Problem(504, "timeout", "this took too long", remedy)
    return Problem(500, "failed", "the program failed", _LOGGED)
