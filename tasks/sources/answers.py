"""From the errors of boto3 and the answers of a store to the errors of this project."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from tasks.errors import (
    AssetChangedError,
    AssetGoneError,
    SourceError,
    StoreRefusedError,
    TransientSourceError,
)

GONE = {"NoSuchKey", "404", "NotFound", "NoSuchVersion"}
CHANGED = {"PreconditionFailed", "412"}
#: Answers when two requests meet at one key: the same request, sent again, shows which one won.
CONFLICT = {"ConditionalRequestConflict", "OperationAborted"}
DENIED = {"AccessDenied", "403", "AllAccessDisabled", "Forbidden"}
_TRANSIENT = {
    *CONFLICT,
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
}
_STRANGER = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "RequestTimeTooSkewed",
}
_TOO_MANY = 429
_SERVER_FAULT = 500


def code_of(error: ClientError) -> str:
    """The store's word for what went wrong; of a HEAD, the status as text."""
    return error.response["Error"].get("Code", "")


def is_transient(error: ClientError) -> bool:
    """Whether the same request may succeed later: it was throttled, or the server failed."""
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _TRANSIENT or status == _TOO_MANY:
        return True
    return status >= _SERVER_FAULT and code != "NotImplemented"


def was_retried(error: BaseException | None) -> bool:
    """Whether boto3 sent the request more than once.

    Then a refusal may only mean that the first attempt succeeded and its answer was lost.
    """
    if not isinstance(error, ClientError):
        return False
    return error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


@contextlib.contextmanager
def explained(action: str, bucket: str, permission: str) -> Iterator[None]:
    """Inside the block, turn what boto3 raises into one of our errors.

    Args:
        action: what was tried, with the key: ``delete 'a.jpg'``.
        bucket: where.
        permission: what the credentials must allow for it.

    Raises:
        AssetChangedError: a precondition did not hold.
        AssetGoneError: there is no such object.
        StoreRefusedError: forbidden, locked, archived, or a request the store does not know.
        TransientSourceError: throttled, timed out, unreachable, or a fault of the server.
        SourceError: no such bucket, no or wrong credentials.
    """
    try:
        yield
    except ClientError as error:
        raise _as_source_error(f"cannot {action} in s3://{bucket}", permission, error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise SourceError(
            f"cannot {action} in s3://{bucket}: {error}; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or DAM_DEDUP_S3__CREDENTIALS_BLOCK"
        ) from error
    except ParamValidationError as error:
        raise StoreRefusedError(f"cannot {action} in s3://{bucket}: {error}") from error
    except BotoCoreError as error:
        raise TransientSourceError(
            f"cannot {action} in s3://{bucket}: {error}; try again"
        ) from error


def _as_source_error(failed: str, permission: str, error: ClientError) -> SourceError:
    code, said = code_of(error), error.response["Error"].get("Message", "")
    if code in GONE:
        return AssetGoneError(f"{failed}: there is no such object any more")
    if code in CHANGED:
        return AssetChangedError(
            f"{failed}: what is there is not what was expected; nothing was done"
        )
    if code == "NoSuchBucket":
        return SourceError(f"{failed}: there is no such bucket")
    if code in _STRANGER:
        return SourceError(f"{failed}: {code} ({said}); check the credentials and the clock")
    if code in DENIED or code == "MethodNotAllowed":
        return StoreRefusedError(
            f"{failed}: {code} ({said}); allow {permission}, and look for an object lock or a "
            "bucket policy that denies it"
        )
    if code == "InvalidObjectState":
        return StoreRefusedError(f"{failed}: it is archived; restore it from the archive first")
    if is_transient(error):
        return TransientSourceError(f"{failed}: {code} ({said}); try again")
    return StoreRefusedError(f"{failed}: the store does not take it: {code} ({said})")
