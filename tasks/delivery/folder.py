"""Documents into a folder."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.errors import DeliveryError
from tasks.records import Document, Receipt


def write_documents(folder: Path, documents: list[Document]) -> list[Receipt]:
    """Write each document whole or not at all.

    Raises:
        DeliveryError: when the folder cannot be written.
    """
    receipts = []
    try:
        # Reports show pictures, keys and metadata: they are for whoever runs this alone.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for document in documents:
            path = folder / document.name
            fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
            fresh.write_bytes(document.body)
            fresh.chmod(0o600)
            fresh.replace(path)
            receipts.append(Receipt(document.name, str(path.resolve())))
    except OSError as error:
        raise DeliveryError(
            f"cannot write {error.filename or folder}: {error.strerror}; "
            "set DAM_DEDUP_DELIVERY__FOLDER or --out"
        ) from error
    return receipts
