"""From the first start of the process to an installed license, as its operator does it."""

import asyncio
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from license_site import DEADLINE_S, PASSWORD
from playwright.sync_api import Browser, expect

from services.local.process import Child, Launch, node_environment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(license_files, tmp_path) -> Iterator[Child]:
    """`swarm license-server`, ready; stopped at the end."""
    argv = (
        sys.executable, "-m", "services.cli", "license-server", "--host", "127.0.0.1", "--port", "0", "--data-dir",
        str(tmp_path / "data"), "--cert", str(license_files.cert), "--key", str(license_files.key), "--cacert",
        str(license_files.cacert),
    )  # fmt: skip
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait_for(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(DEADLINE_S)

    async def start() -> Child:
        child = Child.start(Launch("license-1", argv, tmp_path / "license.log", node_environment(), cwd=ROOT))
        await child.ready()
        return child

    child = wait_for(start())
    yield child
    killed = wait_for(child.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(DEADLINE_S)
    loop.close()
    assert not killed, "the license server did not stop by itself"


def test_first_start_prints_a_link_that_makes_one_administrator(browser: Browser, started: Child, site) -> None:
    link = re.search(r"https://\S+/setup/\S+", started.log.read_text())
    assert link, started.log.read_text()
    address = link[0].replace("127.0.0.1", "localhost")
    with browser.new_context(base_url=address.partition("/setup")[0]) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.get_by_role("heading", name="Nobody administers this server yet")).to_be_visible()

        page.goto(address)
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password again", exact=True).fill("another horse battery")
        page.get_by_role("button", name="Make the administrator").click()
        expect(page.get_by_role("alert")).to_contain_text("The two passwords differ")
        page.get_by_label("Password again", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Make the administrator").click()
        expect(page.get_by_role("status").first).to_contain_text("Welcome, ada")
        expect(page.get_by_text("No node holds a seat")).to_be_visible()

        page.get_by_role("navigation", name="Main").get_by_role("link", name="Licenses").click()
        page.get_by_role("link", name="Trust an issuer").click()
        page.get_by_label("Name of the issuer").fill("Cardio consortium")
        page.get_by_label("Public key").fill(site.issuer_pem.decode())
        page.get_by_role("button", name="Trust this issuer").click()
        expect(page.get_by_role("status").first).to_contain_text("Cardio consortium")
        page.get_by_role("link", name="Install a license").click()
        page.get_by_label("Choose a license file").set_input_files(
            {"name": "consortium.license", "mimeType": "application/json", "buffer": site.license(SL=64)}
        )
        preview = page.get_by_role("region", name="consortium-2026")
        expect(preview).to_contain_text("Signature good")
        expect(preview.get_by_role("row", name="SL Swarm learning nodes")).to_contain_text("64")
        page.get_by_role("button", name="Install this license").click()
        expect(page.get_by_role("status").first).to_contain_text("consortium-2026 is installed: 64 SL")

        page.goto(address)  # a second time
        expect(page.get_by_role("alert")).to_contain_text("The setup link is not valid: this server has users already")
