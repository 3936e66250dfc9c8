"""Numbered migrations: how the catalog of an older release becomes one of this release.

Each version of the schema after the first has a file ``to_NNNN.py`` with one
:class:`~tasks.catalog.migrations.changes.Migration`, and is listed in :data:`MIGRATIONS`. To change
the schema: raise ``SCHEMA_VERSION``, add such a file, and commit a small catalog of the release
before to ``tests/catalog/data``. A migration names tables and columns itself and never reads them
from ``schema.py``, which goes on changing after it.

The tables that reports are read from (``assets``, ``groups``, ``neighbours``, ``pairs``,
``thumbnails``, ``calibrations``) keep their names and columns: a report of an old scan reads their
old versions, which no migration can change.
"""

from __future__ import annotations

from tasks.catalog.migrations.changes import Migration
from tasks.catalog.migrations.to_0003 import PLAIN_NAMES

#: In order; each begins where the one before it ends.
MIGRATIONS: tuple[Migration, ...] = (PLAIN_NAMES,)
