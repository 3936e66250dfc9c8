from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks.errors import SettingsError
from tasks.settings import RENAMED, Settings, load_settings, variables


@pytest.fixture(autouse=True)
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without settings, in a folder without ``.env``."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("DAM_DEDUP_")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DAM_DEDUP_LIMITS__PIXELS", "many"),
        ("DAM_DEDUP_LIMITS__PIXELS", "0"),
        ("DAM_DEDUP_MATCH__THRESHOLD", "1.5"),
        ("DAM_DEDUP_MAIL__TLS", "ssl"),
        ("DAM_DEDUP_MAIL__TO", '["a@b"'),
        ("DAM_DEDUP_COLLECTION", "no spaces"),
        ("DAM_DEDUP_SOURCE__MINIMUM_LISTING", "50%"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(
    env: pytest.MonkeyPatch, name: str, value: str
) -> None:
    env.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"{name}={value!r}: " in str(caught.value)


def test_all_complaints_come_at_once(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAM_DEDUP_LIMITS__PIXELS", "many")
    env.setenv("DAM_DEDUP_MAIL__PORT", "0")
    env.setenv("DAM_DEDUP_MATCH__TRESHOLD", "0.8")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    text = str(caught.value)
    for name in ("LIMITS__PIXELS", "MAIL__PORT", "MATCH__TRESHOLD"):
        assert text.count(f"DAM_DEDUP_{name}") == 1


def test_a_part_that_is_no_json_is_named(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAM_DEDUP_LIMITS", "pixels=5")
    with pytest.raises(SettingsError, match="limits"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DAM_DEDUP_MATCH__TRESHOLD", "DAM_DEDUP_MATCH__THRESHOLD"),
        ("DAM_DEDUP_SOURCE_URI", "DAM_DEDUP_SOURCE__URI"),
        ("DAM_DEDUP_COLECTION", "DAM_DEDUP_COLLECTION"),
        ("DAM_DEDUP_MAIL__PASWORD", "DAM_DEDUP_MAIL__PASSWORD"),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_an_unknown_variable_is_refused_with_a_suggestion(
    env: pytest.MonkeyPatch, name: str, hint: str, place: str
) -> None:
    if place == ".env":
        Path(".env").write_text(f"{name}=hunter2\n")
    else:
        env.setenv(name, "hunter2")
    with pytest.raises(
        SettingsError, match=rf"{name}: no such setting; did you mean {hint}\?"
    ) as e:
        load_settings()
    assert "hunter2" not in str(e.value)  # it may be a password
    assert str(e.value).count(name) == 1


def test_what_is_no_setting_of_ours_is_left_alone(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAM_DEDUP_HOME", "/somewhere")
    env.setenv("DAM_DEDUPLICATE", "x")
    Path(".env").write_text("OTHER=1\n")
    assert load_settings() == Settings()


@pytest.mark.parametrize("value", ["a@x,b@x", " a@x , b@x, ", '["a@x", "b@x"]'])
def test_lists_are_comma_separated_or_json(env: pytest.MonkeyPatch, value: str) -> None:
    env.setenv("DAM_DEDUP_MAIL__TO", value)
    assert load_settings().mail.to == ["a@x", "b@x"]


def test_an_empty_list_is_empty(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAM_DEDUP_SOURCE__LABEL_KEYS", "")
    assert load_settings().source.label_keys == []


def test_a_part_may_come_as_json(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAM_DEDUP_LIMITS", json.dumps({"pixels": 5}))
    env.setenv("DAM_DEDUP_LIMITS__SIDE", "6")
    limits = load_settings().limits
    assert (limits.pixels, limits.side, limits.seconds) == (5, 6, Settings().limits.seconds)


def test_overrides_win_and_keep_the_rest_of_the_part(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAM_DEDUP_MAIL__HOST", "mail.example")
    env.setenv("DAM_DEDUP_MAIL__PASSWORD", "hunter2")
    env.setenv("DAM_DEDUP_MAIL__TO", "a@x")
    env.setenv("DAM_DEDUP_COLLECTION", "theirs")
    found = load_settings(mail={"port": 2525, "to": ["b@x"]}, collection="ours")
    assert (found.mail.host, found.mail.port, found.mail.to) == ("mail.example", 2525, ["b@x"])
    assert found.mail.password == SecretStr("hunter2")
    assert found.collection == "ours"
    keys = {"access_key_id": SecretStr("k"), "secret_access_key": SecretStr("s")}
    assert load_settings(s3=keys).s3.secret_access_key == SecretStr("s")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"catalog": {"busy_seconds": -1}}, "DAM_DEDUP_CATALOG__BUSY_SECONDS=-1"),
        ({"catalog": {"url": "x"}}, "DAM_DEDUP_CATALOG__URL.*did you mean DAM_DEDUP_CATALOG__URI"),
        ({"collection": "no spaces"}, "DAM_DEDUP_COLLECTION='no spaces'"),
        ({"catalogue": {"uri": "x"}}, "catalogue: no such part"),
    ],
)
def test_overrides_are_checked_too(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(**overrides)


def test_secrets_do_not_show(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAM_DEDUP_MAIL__PASSWORD", "hunter2")
    keys = {"access_key_id": "AKIAHUNTER", "secret_access_key": "hunter3"}
    found = load_settings(s3=keys)
    assert found.mail.password is not None
    assert found.mail.password.get_secret_value() == "hunter2"
    for shown in (repr(found), str(found), found.model_dump_json()):
        assert "hunter" not in shown.lower()


def test_env_file_is_read_and_the_environment_wins(env: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("DAM_DEDUP_CATALOG__URI=file\nDAM_DEDUP_CATALOG__BUSY_SECONDS=7\n")
    env.setenv("DAM_DEDUP_CATALOG__URI", "variable")
    found = load_settings().catalog
    assert (found.uri, found.busy_seconds) == ("variable", 7)
    assert load_settings(catalog={"uri": "given"}).catalog.busy_seconds == 7


def test_variables_lists_what_may_be_set(env: pytest.MonkeyPatch) -> None:
    known = variables()
    assert "(default: 0.7)" in known["DAM_DEDUP_MATCH__THRESHOLD"]
    assert "(default: default)" in known["DAM_DEDUP_COLLECTION"]
    assert "DAM_DEDUP_S3__SECRET_ACCESS_KEY" not in known  # not from the environment
    for name in known:
        env.setenv(name, "x")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "no such setting" not in str(caught.value)


def test_keys_are_no_settings(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAM_DEDUP_S3__SECRET_ACCESS_KEY", "hunter2")
    with pytest.raises(SettingsError, match="SECRET_ACCESS_KEY: no such setting") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_settings_are_frozen() -> None:
    found = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        found.collection = "x"
    with pytest.raises(ValueError, match="frozen"):
        found.match.threshold = 1.0


def test_a_reviewer_who_is_an_owner_too_is_refused_without_showing_the_password(env):
    env.setenv("DAM_DEDUP_MAIL__TO", "a@example.com")
    env.setenv("DAM_DEDUP_MAIL__PASSWORD", "hidden")
    env.setenv("DAM_DEDUP_MAIL__REVIEWERS", '{"a@example.com": "size > 1"}')
    with pytest.raises(SettingsError, match=r"MAIL__REVIEWERS.*in MAIL__TO too") as error:
        load_settings()
    assert "hidden" not in str(error.value)


def test_every_setting_has_a_description() -> None:
    for name, meaning in variables().items():
        words = meaning.partition("(default:")[0].split()
        assert len(words) >= 2, f"{name}: {meaning}"
        assert "None" not in words
        assert not any(word.startswith("DAM_DEDUP_") for word in words), f"{name}: {meaning}"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_an_old_name_is_read_and_the_new_one_told(
    env: pytest.MonkeyPatch, old: str, new: str, place: str
) -> None:
    if place == ".env":
        Path(".env").write_text(f"{old}=123\n")
    else:
        env.setenv(old, "123")
    with pytest.warns(FutureWarning, match=f"{old} is now called {new};"):
        found = load_settings()
    part, _, field = new.removeprefix("DAM_DEDUP_").lower().partition("__")
    assert getattr(getattr(found, part), field) == 123
    env.setenv(new, "456")
    with pytest.warns(FutureWarning):
        found = load_settings()
    assert getattr(getattr(found, part), field) == 456, "today's name wins"


def test_old_names_are_no_settings_of_today() -> None:
    assert not RENAMED.keys() & variables().keys()
    assert set(RENAMED.values()) <= variables().keys()


def test_paths_mean_one_place(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("HOME", str(tmp_path))
    env.setenv("PLACE", str(tmp_path / "there"))
    env.setenv("DAM_DEDUP_CATALOG__URI", "~/catalog")
    env.setenv("DAM_DEDUP_DELIVERY__FOLDER", "$PLACE/reports")
    env.setenv("DAM_DEDUP_MERGE__POLICY", "${PLACE}/policy.yaml")
    env.setenv("DAM_DEDUP_SOURCE__URI", "~/photos")
    found = load_settings()
    assert found.catalog.uri == str(tmp_path / "catalog")
    assert found.delivery.folder == tmp_path / "there" / "reports"
    assert found.merge.policy == tmp_path / "there" / "policy.yaml"
    assert found.source.uri == str(tmp_path / "photos")
    env.setenv("DAM_DEDUP_CATALOG__URI", "s3://bucket/~$x")
    assert load_settings().catalog.uri == "s3://bucket/~$x"
    env.setenv("DAM_DEDUP_CATALOG__URI", "$NOT_SET/catalog")
    with pytest.raises(SettingsError, match=r"CATALOG__URI.*NOT_SET in it is not set"):
        load_settings()


def test_an_endpoint_without_a_scheme_is_told(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAM_DEDUP_S3__ENDPOINT_URL", "minio:9000")
    with pytest.raises(SettingsError, match="write http://minio:9000 or https://minio:9000"):
        load_settings()


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_temporary_folder_that_is_none_is_told(env, tmp_path, kind):
    place = tmp_path / "away"
    if kind == "file":
        place.touch()
    env.setenv("TMPDIR", str(place))
    with pytest.raises(SettingsError, match=f"TMPDIR='{place}': not a folder; make one there"):
        load_settings()
    env.setenv("TMPDIR", str(tmp_path))
    load_settings()
