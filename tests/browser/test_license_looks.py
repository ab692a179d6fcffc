"""How pages look: axe finds nothing serious, both themes, a phone, the keyboard alone; and the pictures of the docs."""

import os
from pathlib import Path

import pytest
from license_site import Site
from playwright.sync_api import Page, expect

from services.license_server.actor import SYSTEM

AXE = Path(__file__).parent / "axe" / "axe.min.js"
IMAGES = os.environ.get("LICENSE_SCREENSHOTS")  # a directory; the tests leave the tree alone without it
PHONE = {"width": 390, "height": 844}
DARK, LIGHT = "rgb(14, 18, 21)", "rgb(245, 247, 248)"

PAGES = {
    "dashboard": "/",
    "licenses": "/licenses",
    "license": "/licenses/trial-imaging",
    "install": "/licenses/install",
    "pools": "/pools",
    "leases": "/leases",
    "lease": "/leases/{lease}",
    "usage": "/usage",
    "audit": "/audit",
    "users": "/users",
    "tokens": "/tokens",
    "settings": "/settings",
    "account": "/account",
    "health": "/health",
    "missing": "/nothing",
}
DIALOGS = {
    "revoke": ("/leases", "Revoke the lease of hospital-a-sl-1"),
    "new-user": ("/users", "New user"),
    "user": ("/users", "Change grace"),
    "token": ("/tokens", "New token"),
    "reserve": ("/pools", "Reserve seats for SL"),
    "restrict": ("/pools", "Change whom the pool for SN serves"),
    "trust": ("/licenses", "Trust an issuer"),
    "remove": ("/licenses", "Remove license trial-imaging"),
    "code": ("/account", "Set up an authenticator app"),
    "restore": ("/settings", "Restore"),
    "certificate": ("/settings", "Replace the TLS certificate"),
}


@pytest.fixture
def lived(site: Site) -> Site:
    site.with_admin()
    site.with_life()
    return site


def address(site: Site, path: str) -> str:
    return path.format(lease=next(one.id for one in site.services.leases.all(SYSTEM) if one.node == "hospital-a-sl-1"))


def defects(page: Page) -> list[str]:
    """What axe holds for serious or critical, with the elements."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE.read_text())
    found = page.evaluate(
        """() => axe.run(document, { runOnly: [
            'wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })"""
    )
    return [
        f"{page.url}: {one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:3]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


def settled(page: Page, name: str) -> None:
    if name == "audit":
        expect(page.get_by_text("The chain holds.")).to_be_visible()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("scheme", "size"), [("light", {}), ("dark", {}), ("light", PHONE)], ids=["light", "dark", "phone"]
)
def test_axe_finds_nothing_serious_on_any_page(visit, lived, scheme, size):
    page, found = visit("ada", color_scheme=scheme, **size), []
    for name, path in PAGES.items():
        page.goto(address(lived, path))
        settled(page, name)
        found += defects(page)
    for path in ("/sign-in", "/setup/over"):
        outside = visit(color_scheme=scheme, **size)
        outside.goto(path)
        found += defects(outside)
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_dialog(visit, lived, scheme):
    page, found = visit("ada", color_scheme=scheme), []
    for path, link in DIALOGS.values():
        page.goto(path)
        page.get_by_role("link", name=link).first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        found += defects(page)
    page.goto("/licenses/install")
    file = {"name": "a", "mimeType": "application/json", "buffer": lived.license("multi-centre", SL=128)}
    page.get_by_label("Choose a license file").set_input_files(file)
    expect(page.get_by_role("region", name="multi-centre")).to_be_visible()
    assert found + defects(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_where_there_is_nothing_yet(visit, site, scheme):
    fresh = visit(color_scheme=scheme)
    fresh.goto("/")
    found = defects(fresh)
    fresh.goto(f"/setup/{site.services.accounts.setup_secret()}")
    found += defects(fresh)
    site.with_admin()
    site.services.licenses.remove(SYSTEM, "community")
    page = visit("ada", color_scheme=scheme)
    for path in ("/", "/licenses", "/pools", "/leases", "/usage", "/tokens"):
        page.goto(path)
        found += defects(page)
    assert found == []


def test_colours_follow_the_system_until_somebody_chooses(visit, site):
    site.with_admin()
    page = visit("ada", color_scheme="dark")
    page.goto("/")
    ground = "() => getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(ground) == DARK
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == LIGHT
    page.get_by_role("button", name="Dark").first.click()
    assert page.evaluate(ground) == DARK
    page.goto("/pools")
    assert page.evaluate(ground) == DARK
    expect(page.get_by_role("button", name="Dark").first).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="As the system").first.click()
    assert page.evaluate(ground) == LIGHT


def test_phone_shows_everything_without_scrolling_sideways(visit, lived):
    page = visit("ada", **PHONE)
    for name, path in PAGES.items():
        page.goto(address(lived, path))
        settled(page, name)
        wide = page.evaluate(
            """() => [...document.querySelectorAll("main *")].filter(each => !each.closest("pre, svg, .hidden"))
            .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
            .map(each => each.outerHTML.slice(0, 80))"""
        )
        assert wide == [] and page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], (name, wide)
    page.goto("/leases")
    row = page.get_by_role("row").filter(has_text="hospital-a-sl-1").first
    label = "cell => getComputedStyle(cell, '::before').content"
    assert row.locator("td[data-label='Held since']").evaluate(label) == '"Held since"'
    page.get_by_label("Menu").first.click()
    page.get_by_role("navigation", name="Menu").get_by_role("link", name="Usage").click()
    expect(page.get_by_role("heading", name="Usage")).to_be_visible()


def test_everything_is_done_with_the_keyboard_alone(visit, site):
    site.with_admin()
    site.with_node("hospital-a-sl-1")
    page = visit()
    page.goto("/leases")
    keys = page.keyboard
    expect(page.get_by_label("Name")).to_be_focused()
    keys.type("ada")
    keys.press("Tab")
    keys.type("correct horse battery")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Leases", exact=True)).to_be_visible()
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    revoke = page.get_by_role("link", name="Revoke the lease of hospital-a-sl-1")
    for _ in range(20):
        keys.press("Tab")
        if revoke.evaluate("link => link === document.activeElement"):
            break
    outline = revoke.evaluate("link => getComputedStyle(link).outlineStyle")
    assert outline == "solid"
    keys.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    keys.press("Escape")
    expect(dialog).to_have_count(0)
    expect(revoke).to_be_focused()
    keys.press("Enter")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    keys.type("Left the study")
    keys.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("The lease of hospital-a-sl-1 is revoked")
    assert site.services.leases.revocations(SYSTEM)[0].reason == "Left the study"


def test_focus_stays_where_it_is_while_the_page_refreshes_itself(visit, site):
    site.with_admin()
    site.with_node("hospital-a-sl-1")
    page = visit("ada")
    page.goto("/leases")
    link = page.get_by_role("link", name="Revoke the lease of hospital-a-sl-1")
    link.focus()
    site.with_node("hospital-b-sl-1")
    expect(page.get_by_role("link", name="Revoke the lease of hospital-b-sl-1")).to_be_visible()
    expect(link).to_be_focused()


@pytest.mark.skipif(not IMAGES, reason="LICENSE_SCREENSHOTS names no directory: `make screenshots` does")
def test_pictures_for_the_docs(visit, lived):
    directory = Path(IMAGES)
    directory.mkdir(parents=True, exist_ok=True)
    shots = [
        ("dashboard", "light", {}), ("dashboard", "dark", {}), ("leases", "light", {}), ("pools", "light", {}),
        ("usage", "light", {}), ("usage", "dark", {}), ("audit", "light", {}), ("lease", "light", {}),
        ("licenses", "light", {}), ("settings", "light", {}), ("dashboard", "light", PHONE), ("leases", "light", PHONE),
    ]  # fmt: skip
    for name, scheme, size in shots:
        page = visit("ada", color_scheme=scheme, **size)
        page.goto(address(lived, PAGES[name]))
        settled(page, name)
        kind = "-phone" if size else "-dark" if scheme == "dark" else ""
        page.screenshot(path=directory / f"license-{name}{kind}.png")
    page = visit("ada")
    page.goto("/licenses/install")
    file = {
        "name": "multi-centre.license",
        "mimeType": "application/json",
        "buffer": lived.license("multi-centre", SL=128),
    }
    page.get_by_label("Choose a license file").set_input_files(file)
    expect(page.get_by_role("region", name="multi-centre")).to_be_visible()
    page.screenshot(path=directory / "license-install.png")
    page.goto("/leases")
    page.get_by_role("link", name="Revoke the lease of hospital-a-sl-1").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.screenshot(path=directory / "license-revoke.png")
    outside = visit()
    outside.goto("/sign-in")
    outside.screenshot(path=directory / "license-sign-in.png")
