"""A group that could not be decided on, and now can: that is news, though nothing else changed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.order import compose
from reports.page import news
from tasks.merging import plan
from tasks.records import now
from tests.merging.conftest import encoded, make_site, picture

__all__ = ["make_site"]

POLICY = """
version: 1
name: patient
minimum_age_hours: 24
caps: {share: 1.0}
rules:
  - {name: all, action: quarantine}
"""


@pytest.mark.long
def test_a_group_that_grew_old_enough_is_mailed(
    make_site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("plain")
    for key in ("a.png", "b.png"):
        site.put(key, encoded(picture(1)), ContentType="image/png")
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    merge = site.settings.merge.model_copy(update={"policy": policy})
    mail = site.settings.mail.model_copy(update={"to": ["admin@example.test"]})
    settings = site.settings.model_copy(update={"merge": merge, "mail": mail})

    def letters() -> list[str]:
        summary = site.scan(merge=merge).summary
        return [str(letter["Subject"]) for letter in compose(summary, [], settings)]

    (first,) = letters()
    assert "1 new group" in first
    assert letters() == [], "it is still too young"
    monkeypatch.setattr(plan, "now", lambda: now() + timedelta(hours=25))
    (old,) = letters()
    assert "1 group that can be decided now" in old
    assert letters() == [], "it was told"
    assert news(site.scan(merge=merge).summary) == "nothing new"
