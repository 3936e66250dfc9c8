"""Look before the first stage at all that a scan needs at its end, on the machine that scans.

A policy file that is missing, a bucket that takes no reports or a model that cannot be loaded would
else stop a scan after hours of work. The same looks are the command ``dam-dedup doctor``. None of
them leaves anything behind.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tasks.delivery.smtp import connect
from tasks.errors import (
    CatalogError,
    DamDedupError,
    DeliveryError,
    MailError,
    TransientSourceError,
)
from tasks.merging.policy_file import read_policy
from tasks.requests import ScanRequest
from tasks.session import open_catalog, open_embedder, open_source
from tasks.settings import Settings
from tasks.sources.s3 import client_for

log = logging.getLogger(__name__)

#: No object has this ETag, so a write on the condition of it is refused: after the store has looked
#: whether it is allowed.
_NO_ETAG = '"dam-dedup-no-such-etag"'
#: How a store refuses a write that it would allow: the condition does not hold, or there is no
#: object it could hold for.
_ALLOWED = {"PreconditionFailed", "412", "NoSuchKey", "404", "ConditionalRequestConflict"}


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one thing that a scan needs.

    Attributes:
        name: what is looked at.
        at: says what is there, or nothing where none is configured; raises a
            :class:`~tasks.errors.DamDedupError` where it cannot be used.
        unset: what it means that none is configured, and how to change that.
        remedy: where to look when it cannot be used.
    """

    name: str
    at: Callable[[Settings], str]
    unset: tuple[str, str] = ("", "")
    remedy: str = ""


def preflight(request: ScanRequest, settings: Settings) -> None:
    """Refuse a scan that would fail at its end.

    A mail server that does not answer is only told, for a scan is worth more than its mail: the
    next one tells the news again.

    Args:
        request: what is to be scanned.
        settings: with policy, model, and where documents go.

    Raises:
        DamDedupError: the first thing that is wrong, with the others in its message.
        TransientSourceError: when the storage fails in passing.
    """
    if request.source:
        source = settings.source.model_copy(update={"uri": request.source})
        settings = settings.model_copy(update={"source": source})
    wrong: list[DamDedupError] = []
    for look in BEFORE_A_SCAN:
        if request.dry_run and look in (MAIL, DELIVERY):
            continue
        try:
            look.at(settings)
        except TransientSourceError:
            raise
        except MailError as error:
            log.warning("the mail of this scan will not go out: %s", error)
        except DamDedupError as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        others = "".join(f"\n  also: {error}" for error in wrong[1:])
        raise type(wrong[0])(f"{wrong[0]}{others}")


def _policy(settings: Settings) -> str:
    path = settings.merge.policy
    if path is None:
        return ""
    policy = read_policy(path)
    rules = len(policy.rules)
    return f"{path}: {policy.name}, {rules} rule{'' if rules == 1 else 's'}"


def _source(settings: Settings) -> str:
    uri = settings.source.uri
    if not uri:
        return ""
    source = open_source(uri, settings)
    page = next(iter(islice(source.list_pages(), 1)), [])
    if page:
        source.probe(page[0].key)
    more = "or more " if len(page) >= 1000 else ""
    return f"{uri}: {len(page)} {more}objects listed, the first one read"


def _catalog(settings: Settings) -> str:
    uri = settings.catalog.uri
    if uri.startswith("s3://"):
        _look_at_bucket(uri, settings, CatalogError, "DAM_DEDUP_CATALOG__URI")
        room, there = "", _any_object(uri, settings)
    else:
        folder = Path(uri)
        room = f", {_free(folder, CatalogError, 'DAM_DEDUP_CATALOG__URI') / 1e9:.0f} GB free"
        there = folder.is_dir() and any(folder.iterdir())
    if not there:
        return f"{uri}: none yet, the first scan makes it{room}"
    catalog = open_catalog(settings, migrate=False)
    if not catalog.up_to_date:
        return (
            f"{uri}: schema {catalog.standing.version}; the next scan migrates it "
            "(dam-dedup catalog migrate --dry-run shows how)"
        )
    surplus = catalog.duplicate_keys()
    if surplus:
        raise CatalogError(f"{uri}: doubled keys {surplus}: scan into a new catalog")
    return f"{uri}: {catalog.count('assets'):,} assets, writable{room}"


def _delivery(settings: Settings) -> str:
    places = []
    if settings.delivery.folder:
        _free(settings.delivery.folder, DeliveryError, "DAM_DEDUP_DELIVERY__FOLDER")
        places.append(str(settings.delivery.folder))
    if settings.delivery.bucket:
        name = "DAM_DEDUP_DELIVERY__BUCKET"
        _look_at_bucket(settings.delivery.bucket, settings, DeliveryError, name)
        places.append(settings.delivery.bucket)
    return f"{' and '.join(places)}: writable" if places else ""


def _mail(settings: Settings) -> str:
    mail = settings.mail
    people = [*mail.to, *mail.reviewers]
    if not people:
        return ""
    try:
        with connect(mail) as server:
            server.noop()
    except Exception as error:  # the mail must end no scan, whatever its library raises
        raise MailError(f"{mail.host}:{mail.port} (tls {mail.tls}): {error}") from error
    return f"{mail.host}:{mail.port} answers; to {', '.join(people)}"


def _model(settings: Settings) -> str:
    embedder = open_embedder(settings)
    space = embedder.space
    return f"{space.model}, {space.dim} dimensions, on {embedder.device}"


def _free(folder: Path, kind: type[DamDedupError], name: str) -> int:
    """Free bytes where a folder is or will be; a file without a name is made there, and is gone."""
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        return shutil.disk_usage(there).free
    except OSError as error:
        raise kind(f"cannot write to {folder}: {error.strerror}; see {name}") from error


def _look_at_bucket(uri: str, settings: Settings, kind: type[DamDedupError], name: str) -> None:
    """Make sure that a bucket takes objects below a prefix, by a write that must not succeed.

    Its condition cannot hold, so a store that keeps to conditions refuses it in either case; the
    refusal tells whether the write would have been allowed. A store that ignores conditions writes
    an empty object, which is removed at once.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    key = f"{prefix.rstrip('/')}/.dam-dedup-preflight".lstrip("/")
    client = client_for(settings.s3)
    try:
        client.put_object(Bucket=bucket, Key=key, Body=b"", IfMatch=_NO_ETAG)
        client.delete_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"].get("Code", "") not in _ALLOWED:
            raise kind(f"cannot write to {uri}: {error}; see {name}") from error
    except BotoCoreError as error:
        raise kind(f"cannot write to {uri}: {error}; see {name}") from error


def _any_object(uri: str, settings: Settings) -> bool:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    try:
        found = client_for(settings.s3).list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except (ClientError, BotoCoreError) as error:
        raise CatalogError(f"cannot list {uri}: {error}; see DAM_DEDUP_CATALOG__URI") from error
    return bool(found.get("KeyCount"))


MAIL = Look(
    "mail",
    _mail,
    ("nobody gets one", "set DAM_DEDUP_MAIL__TO to get reports"),
    "see DAM_DEDUP_MAIL__HOST, __PORT, __TLS, __USERNAME and __PASSWORD",
)
POLICY = Look(
    "policy",
    _policy,
    ("none: duplicates are only reported", "to merge, set DAM_DEDUP_MERGE__POLICY"),
    "correct the file, or DAM_DEDUP_MERGE__POLICY",
)
SOURCE = Look(
    "source",
    _source,
    ("none", "set DAM_DEDUP_SOURCE__URI or give --source"),
    "check the URI, the endpoint and credentials",
)
CATALOG = Look("catalog", _catalog, remedy="see DAM_DEDUP_CATALOG__URI")
DELIVERY = Look(
    "delivery",
    _delivery,
    ("documents go nowhere", "set DAM_DEDUP_DELIVERY__FOLDER or __BUCKET"),
    "see DAM_DEDUP_DELIVERY__FOLDER and __BUCKET",
)
MODEL = Look("model", _model, remedy="see DAM_DEDUP_EMBEDDING__MODEL")

#: All looks, the quick ones first.
LOOKS = (POLICY, MAIL, SOURCE, CATALOG, DELIVERY, MODEL)
#: Those of a scan; its catalog is opened, and migrated, by its first stage.
BEFORE_A_SCAN = (POLICY, MAIL, SOURCE, DELIVERY, MODEL)
