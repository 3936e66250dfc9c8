"""What a scan tells the server for its operators, and through which addresses they are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from apprise import Apprise
from pydantic import SecretStr, ValidationError

from deployments.alarms import alarms_of, mail_address, webhook_address
from flows import scan
from flows.telling import COVERAGE_LOW, MAIL_FAILED, SCANNED
from tasks.errors import SettingsError
from tasks.settings import load_settings
from tasks.settings_parts import AlarmSettings, MailSettings


def outcome(
    *, scanned: int, failed: dict[str, int], mail: tuple[str, ...] = (), incomplete: str = ""
) -> Any:
    return SimpleNamespace(
        scan=SimpleNamespace(id="scan-1", dry_run=False, settings=load_settings()),
        summary=SimpleNamespace(coverage=SimpleNamespace(scanned=scanned, failed=failed)),
        failed=mail,
        incomplete=incomplete,
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"scanned": 100, "failed": {}}, {SCANNED}),
        ({"scanned": 95, "failed": {"truncated": 5}}, {SCANNED}),
        ({"scanned": 94, "failed": {"truncated": 6}}, {SCANNED, COVERAGE_LOW}),
        ({"scanned": 0, "failed": {}}, {SCANNED}),
        ({"scanned": 9, "failed": {}, "mail": ("to a@b.c: no",)}, {SCANNED, MAIL_FAILED}),
        ({"scanned": 1, "failed": {"storage_error": 9}, "incomplete": "9 of 10"}, {COVERAGE_LOW}),
    ],
)
def test_a_scan_tells_what_operators_may_want_to_know(monkeypatch, given, told):
    said: dict[str, str] = {}
    monkeypatch.setattr(scan, "tell_server", lambda event, _, words: said.update({event: words}))
    scan.tell_alarms(outcome(**given))
    assert set(said) == told
    if COVERAGE_LOW in told:
        assert f"{given['scanned']} of 1" in said[COVERAGE_LOW]


@pytest.mark.parametrize(
    ("tls", "mode"), [("none", "insecure"), ("starttls", "starttls"), ("tls", "ssl")]
)
def test_the_operators_mail_goes_through_the_settings_server(tls, mode):
    mail = MailSettings(
        host="smtp.example.org",
        port=2525,
        tls=tls,
        username="dam@example.org",
        password=SecretStr("p@ss/w:rd?"),
        sender="dam@example.org",
    )
    told = AlarmSettings(to=["ops@example.org", "boss@example.org"])
    read = Apprise.instantiate(str(mail_address(told, mail)))
    assert (read.smtp_host, read.port, read.secure_mode) == ("smtp.example.org", 2525, mode)
    assert (read.user, read.password) == ("dam@example.org", "p@ss/w:rd?")
    assert {address for _, address in read.targets} == {"ops@example.org", "boss@example.org"}
    assert mail_address(AlarmSettings(), mail) is None


def test_no_bound_is_shorter_than_the_server_can_wait():
    """Prefect refuses less than ten seconds, and ``deploy`` ended with its error."""
    least = AlarmSettings(late_minutes=0.2, scan_hours=0.003)
    alarms_of(SimpleNamespace(name="photos", title="Photos", notifications=least))
    for wrong in ({"late_minutes": 0.1}, {"scan_hours": 0.001}):
        with pytest.raises(ValidationError, match="greater than or equal"):
            AlarmSettings(**wrong)


def test_a_webhooks_address_may_be_in_a_variable(monkeypatch):
    told = AlarmSettings(webhook=SecretStr("$DAM_OPS"))
    monkeypatch.delenv("DAM_OPS", raising=False)
    with pytest.raises(SettingsError, match="the variable DAM_OPS is not set"):
        webhook_address(told)
    monkeypatch.setenv("DAM_OPS", "https://hooks.example.org/x")
    assert webhook_address(told) == "https://hooks.example.org/x"
    assert webhook_address(AlarmSettings()) is None
