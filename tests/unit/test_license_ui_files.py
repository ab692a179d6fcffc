"""What the pages are made of is in the package, and comes from nowhere else."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UI = ROOT / "services" / "license_server" / "ui"
TEMPLATES = sorted((UI / "templates").glob("*.html"))
WRITTEN = [*TEMPLATES, UI / "static" / "app.js", UI / "static" / "theme.js", UI / "static" / "style.css"]


def test_templates_and_static_files_are_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = settings["services.license_server.ui"]
    files = [path.relative_to(UI).as_posix() for path in UI.rglob("*") if path.is_file() and path.suffix != ".py"]
    files = [name for name in files if "__pycache__" not in name]
    assert files and [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_nothing_is_fetched_from_elsewhere_or_evaluated(path):
    text = path.read_text()
    addresses = set(re.findall(r"https?://[^\s\"'<>)]*", text)) - {"https://", "https://.*", "https://…/setup/…"}
    assert addresses == set()
    assert not re.search(
        r"\beval\(|new Function|innerHTML\s*=|hx-on|\sstyle=|<style|<script(?! src=)|\|\s*tojson", text
    )


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_only_our_own_drawings_and_attributes_go_unescaped(path):
    unescaped = re.findall(r"\{\{\s*([^}]*?)\|\s*safe", path.read_text())
    assert set(unescaped) <= {"shapes[name]", "extra"}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_form_that_changes_something_has_its_token(path):
    text = path.read_text()
    assert text.count('method="post"') <= text.count("form_token")
