"""A SWOP with a trust file, which its SLs use too, refuses to start with a profile by which they would not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.main import main
from services.errors import SettingsError
from services.local.swops import profile_of


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "CACERT of the pair 0 lets its SL trust CAs alone, and this SWOP goes by a trust file"),
        ({"slenvvars": [{"SWARM_ID_CAPATH": "/cas"}], "identity": []}, "SWARM_ID_CAPATH of the pair 0 lets its SL"),
        ({"identity": []}, "swop-1-key.pem is a private key; give the trust file a directory of its own"),
    ],
)
def test_sls_are_not_left_with_less_than_the_trust_file_and_see_no_key_by_it(  # type: ignore[no-untyped-def]
    pki, tmp_path: Path, capsys: Any, *, changes: dict[str, Any], words: str
) -> None:
    files = pki.issue("swop", "swop-1", out_dir=tmp_path / "trust")
    key = files.key.rename(tmp_path / "trust" / "swop-1-key.pem")
    shutil.copyfile(pki.cacert, tmp_path / "trust" / "ca.pem")
    one = {"name": "a", "trust_domain": "swarm.local", "cas": ["ca.pem"], "issues": {"swop": ["*"]}}
    trust = tmp_path / "trust" / "trust.yaml"
    trust.write_text(yaml.safe_dump({"organizations": [one]}))
    profile = yaml.safe_load(
        profile_of("swop-1", [pki.issue("sl", "sl-1")], "127.0.0.1", license_port=1, sn_port=1, images=["x"])
    )
    profile["nodes"][0]["slnodedef"] |= changes
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    argv = ["swop", "--usr-dir", tmp_path, "--profile-file-name", "profile.yaml", "--data-dir", tmp_path / "data"]
    argv += ["--cert", files.cert, "--key", key, "--trust", trust]
    assert main([str(word) for word in argv]) == SettingsError.exit_code
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("ERROR: ")
    assert said.count("\n") == 1
