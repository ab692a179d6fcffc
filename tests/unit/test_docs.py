"""Generated pages are current, and every line of a settings table says something."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALONE = ("tests/unit/", "tests/contracts/")  # where no server is started


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_has_a_meaning() -> None:
    rows = [line for line in (ROOT / "docs" / "settings.md").read_text().splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.rstrip().endswith("|  |")] == []


def test_every_claim_of_the_security_page_names_a_test_that_there_is() -> None:
    """In each row of its tables: ``tests/…py::name``, or ``::name`` in the file that was named before it. Of each row
    at least one plays it against processes or servers.
    """
    rows = [line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line.startswith("| ")]
    claims = [row for row in rows if not row.startswith("| someone")]
    assert len(claims) >= 60
    for row in claims:
        named = re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", row.rsplit(" | ", 1)[-1])
        assert named, row
        played, file = False, ""
        for given, name in named:
            file = given or file
            assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"
            played = played or not file.startswith(ALONE)
        assert played, row
