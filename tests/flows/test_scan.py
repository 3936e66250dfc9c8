"""What a flow makes of its request and of the credentials it is told of."""

import sys
from enum import Enum
from types import ModuleType, SimpleNamespace

import pytest
from prefect.blocks.system import Secret
from pydantic import SecretStr

from tasks.errors import (
    AssetChangedError,
    AssetGoneError,
    DeliveryError,
    EngineError,
    MailError,
    SettingsError,
)
from tasks.settings import load_settings
from tasks.steps import with_credentials, worth_retrying


@pytest.fixture
def named(monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_S3__CREDENTIALS_BLOCK", "dam-keys")
    return load_settings()


@pytest.mark.parametrize(
    "value",
    [
        {"access_key_id": "id", "secret_access_key": "hidden"},
        '{"access_key_id": "id", "secret_access_key": "hidden"}',
    ],
)
def test_a_block_gives_credentials_that_are_not_shown(named, monkeypatch, value):
    monkeypatch.setattr(Secret, "load", lambda name: Secret(value=value))
    settings = with_credentials(named)
    assert settings.s3.access_key_id.get_secret_value() == "id"
    assert settings.s3.secret_access_key.get_secret_value() == "hidden"
    assert "hidden" not in repr(settings)
    assert "hidden" not in settings.model_dump_json()


@pytest.mark.parametrize("value", ["not json", '{"acess_key_id": "id"}', "[1]"])
def test_a_block_that_holds_something_else_is_named(named, monkeypatch, value):
    monkeypatch.setattr(Secret, "load", lambda name: Secret(value=value))
    with pytest.raises(SettingsError, match="CREDENTIALS_BLOCK=dam-keys"):
        with_credentials(named)


def test_a_missing_block_is_named(named, monkeypatch):
    def load(name):
        raise ValueError(f"no block {name}")

    monkeypatch.setattr(Secret, "load", load)
    with pytest.raises(SettingsError, match="no block dam-keys"):
        with_credentials(named)


def test_without_a_block_nothing_is_asked():
    settings = load_settings()
    assert with_credentials(settings) is settings


# ---- the mail server's block -------------------------------------------------------------------


@pytest.fixture
def mail_block(monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_MAIL__SERVER_BLOCK", "dam-mail")
    return load_settings()


def stand_in(monkeypatch, load) -> None:
    """The package prefect-email is not installed with this program; its words are."""
    found = ModuleType("prefect_email")
    found.EmailServerCredentials = SimpleNamespace(load=load)
    monkeypatch.setitem(sys.modules, "prefect_email", found)


class Kind(Enum):
    SSL = 465
    STARTTLS = 587
    INSECURE = 25


@pytest.mark.parametrize(
    ("kind", "tls"), [("SSL", "tls"), ("STARTTLS", "starttls"), ("INSECURE", "none")]
)
def test_a_block_gives_the_mail_server(mail_block, monkeypatch, kind, tls):
    block = SimpleNamespace(
        smtp_server="smtp.example.test",
        smtp_port=2525,
        smtp_type=Kind[kind],
        username="anna",
        password=SecretStr("hidden"),
    )
    stand_in(monkeypatch, lambda name: block)
    mail = with_credentials(mail_block).mail
    assert (mail.host, mail.port, mail.tls, mail.username) == (
        "smtp.example.test",
        2525,
        tls,
        "anna",
    )
    assert mail.password.get_secret_value() == "hidden"
    assert "hidden" not in repr(mail)
    assert mail.sender == mail_block.mail.sender


def test_a_block_without_a_port_takes_the_usual_one(mail_block, monkeypatch):
    block = SimpleNamespace(
        smtp_server="smtp.example.test",
        smtp_port=None,
        smtp_type="STARTTLS",
        username=None,
        password=None,
    )
    stand_in(monkeypatch, lambda name: block)
    assert with_credentials(mail_block).mail.port == 587


def test_without_the_package_the_block_is_refused_with_a_remedy(mail_block, monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect_email", None)
    with pytest.raises(SettingsError, match=r"SERVER_BLOCK=dam-mail.*pip install prefect-email"):
        with_credentials(mail_block)


def test_a_missing_mail_block_is_named(mail_block, monkeypatch):
    def load(name):
        raise ValueError(f"no block {name}")

    stand_in(monkeypatch, load)
    with pytest.raises(SettingsError, match=r"SERVER_BLOCK=dam-mail.*no block dam-mail"):
        with_credentials(mail_block)


def test_a_mail_that_was_tried_is_not_tried_again_by_the_task():
    failed = SimpleNamespace(result=lambda raise_on_failure: MailError("554 no"))
    lost = SimpleNamespace(result=lambda raise_on_failure: DeliveryError("bucket busy"))
    assert not worth_retrying(None, None, failed)
    assert worth_retrying(None, None, lost)
    gone = SimpleNamespace(result=lambda raise_on_failure: EngineError("the scheduler is gone"))
    assert worth_retrying(None, None, gone), "it may have been started again"


def test_an_asset_that_is_not_there_is_not_waited_for():
    absent = SimpleNamespace(result=lambda raise_on_failure: AssetGoneError("no asset 'nobody'"))
    changed = SimpleNamespace(result=lambda raise_on_failure: AssetChangedError("replaced"))
    assert not worth_retrying(None, None, absent)
    assert worth_retrying(None, None, changed)
