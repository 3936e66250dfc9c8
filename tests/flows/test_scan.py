"""What a flow makes of its request and of the credentials it is told of."""

import pytest
from prefect.blocks.system import Secret

from flows.scan import full_scan
from tasks.errors import SettingsError
from tasks.settings import load_settings
from tasks.steps import with_credentials


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


def test_a_full_scan_stays_full_when_other_fields_are_given():
    given = full_scan.validate_parameters({"request": {"dry_run": True}})
    assert given["request"].kind == "full"


def test_without_a_block_nothing_is_asked():
    settings = load_settings()
    assert with_credentials(settings) is settings
