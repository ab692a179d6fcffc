"""Debian's Chromium, driven by Playwright; it trusts no certificate but the one of the server under test."""

import base64
import contextlib
import hashlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from license_site import PASSWORD, Site
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

DEADLINE_MS = 15_000
EXPECTED_IN_CONSOLE = ("Failed to load resource", "Response Status Error Code", "htmx:sendError", "htmx:afterRequest")

expect.set_options(timeout=DEADLINE_MS)


@pytest.fixture(autouse=True)
def _nobody_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Playwright waits for what is expected; a test that waits for time to pass fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("wait for what is expected, not for time to pass")

    monkeypatch.setattr(time, "sleep", refuse)
    monkeypatch.setattr(Page, "wait_for_timeout", refuse)


def undisturbed(program: str | None, directory: Path) -> Path:
    """A command that starts it so that containers which come and go break none of its connections."""
    command = directory / "chromium"
    words = shlex.join([sys.executable, str(Path(__file__).with_name("without_netlink.py")), str(program)])
    command.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    command.chmod(0o755)
    return command


@pytest.fixture(scope="session")
def license_files(pki) -> Any:
    return pki.issue("license", "license-1")


@pytest.fixture(scope="module")
def browser(license_files, pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """For one module: as long as it runs, no other event loop can run in this thread."""
    path = undisturbed(shutil.which("chromium"), tmp_path_factory.mktemp("chromium"))
    certificate = x509.load_pem_x509_certificate(license_files.cert.read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = base64.b64encode(hashlib.sha256(key).digest()).decode()
    args = [f"--ignore-certificate-errors-spki-list={pin}"]
    if os.geteuid() == 0:
        args.append("--no-sandbox")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("NODE_EXTRA_CA_CERTS", str(pki.cacert))  # for what is asked beside the browser
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=path, args=args)
        yield browser
        browser.close()


@pytest.fixture
def site(pki, license_files, tmp_path: Path) -> Iterator[Site]:
    site = Site(pki, tmp_path / "data", license_files)
    site.start()
    yield site
    site.stop()
    site.close()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """A page of a browser of its own; ``name``: signed in as this user. What it says in its console fails the test."""
    opened: list[BrowserContext] = []
    said: list[str] = []

    def open_page(name: str = "", width: int = 1280, height: int = 800, **options: Any) -> Page:
        size = {"width": width, "height": height}
        context = browser.new_context(viewport=size, base_url=site.address, timezone_id="Europe/Berlin", **options)
        context.set_default_timeout(DEADLINE_MS)
        opened.append(context)
        if name:
            secret = site.services.accounts.sign_in(name, PASSWORD, "", "127.0.0.1").secret
            context.add_cookies([{"name": "__Host-swarm-session", "value": secret, "url": site.address,
                                  "secure": True, "httpOnly": True, "sameSite": "Strict"}])  # fmt: skip
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert [words for words in said if not words.startswith(EXPECTED_IN_CONSOLE)] == []
