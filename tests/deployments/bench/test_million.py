"""Made-up contents go through every stage of a scan, and the copies among them are found."""

from __future__ import annotations

import pytest

from deployments.bench.million import STAGES, run_million
from tasks.errors import SettingsError
from tasks.settings import load_settings


@pytest.mark.long
def test_every_stage_of_a_scan_runs_on_made_up_contents(tmp_path):
    laps = run_million(load_settings(), 400, tmp_path, dim=64)
    said = {lap.stage: lap.said for lap in laps}
    assert tuple(said) == STAGES
    assert said["list"] == "400 listed, 0 0 0", "the catalog knows what the bucket lists"
    assert said["embed"] == "0 to read"
    assert "verified=0" in said["verify"], "what is made up is known"
    assert "proven=0" in said["prove"]
    assert "groups=0" not in said["group"]
    assert "'report.html'" in said["report"]
    assert all(lap.peak_mib >= lap.before_mib > 0 for lap in laps)
    # Lists may be made up as well, and a stage may be run again by itself.
    again = run_million(
        load_settings(), 400, tmp_path, dim=64, stages=["draw", "answers", "verify", "group"]
    )
    assert [lap.stage for lap in again] == ["draw", "answers", "verify", "group"]
    assert again[0].said == "400 lists made up"
    with pytest.raises(SettingsError, match="holds 400 contents"):
        run_million(load_settings(), 500, tmp_path, dim=64)
    with pytest.raises(SettingsError, match="unknown stages: nothing"):
        run_million(load_settings(), 400, tmp_path, dim=64, stages=["nothing"])
