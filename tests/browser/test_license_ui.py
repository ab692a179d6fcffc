"""What operators do in the browser, page by page, against a server over real HTTPS."""

import re
import ssl
import urllib.request

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from license_site import PASSWORD, Site
from playwright.sync_api import Page, expect
from sqlalchemy import text

from services.license_server.actor import SYSTEM
from services.license_server.leases import LeaseHolder

SECRET = "known to both"  # noqa: S105  # of nobody


@pytest.fixture(autouse=True)
def _users(site: Site) -> None:
    site.with_admin()


def choose_license(page: Page, file: bytes, name: str = "a.license") -> None:
    page.get_by_label("Choose a license file").set_input_files(
        {"name": name, "mimeType": "application/json", "buffer": file}
    )


def notice(page: Page):
    return page.get_by_role("status").first


# --- licenses ---


def test_file_that_is_dragged_in_is_shown_and_installed_only_when_accepted(visit, site):
    site.with_issuer()
    page = visit("ada")
    page.goto("/licenses/install")
    transfer = page.evaluate_handle(
        """text => { const data = new DataTransfer();
        data.items.add(new File([text], "dragged.license", { type: "application/json" })); return data; }""",
        site.license("dragged", SL=5, SWCI=1).decode(),
    )
    page.locator("[data-drop]").dispatch_event("drop", {"dataTransfer": transfer})
    preview = page.get_by_role("region", name="dragged")
    expect(preview).to_contain_text("Cardio consortium")
    expect(preview.get_by_role("row", name="SWCI")).to_contain_text("Valid")
    assert [license.id for license in site.services.licenses.all(SYSTEM)] == ["community"]
    page.get_by_role("button", name="Install this license").click()
    expect(notice(page)).to_contain_text("License dragged is installed: 5 SL, 1 SWCI")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Dashboard").click()
    expect(page.get_by_role("article").filter(has_text="Swarm learning nodes")).to_contain_text("of 21 in use")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("stranger", "Issuer not trusted"),
        ("changed", "Signature bad"),
        ("text", "This is not a license file: it is not JSON"),
        ("huge", "This is not a license file: it is larger than 65536 bytes"),
    ],
)
def test_file_that_cannot_be_installed_says_why_and_offers_no_button(visit, site, case, words):
    site.with_issuer()
    file = {
        "stranger": site.license(key=Ed25519PrivateKey.generate()),
        "changed": site.license(SL=5).replace(b'"capacity": 5', b'"capacity": 500'),
        "text": b"hello",
        "huge": b"{" + b" " * 70_000 + b"}",
    }[case]
    page = visit("ada")
    page.goto("/licenses/install")
    choose_license(page, file)
    expect(page.get_by_role("main")).to_contain_text(words)
    expect(page.get_by_role("button", name="Install this license")).to_have_count(0)


def test_license_that_ends_soon_is_told_on_the_dashboard_and_removed(visit, site):
    site.with_issuer()
    site.services.licenses.install(SYSTEM, site.license("trial", 5, SL=8))
    page = visit("ada")
    page.goto("/")
    expect(page.get_by_role("region", name="Needs attention")).to_contain_text("License trial ends on")
    page.get_by_role("link", name="Look at it").click()
    expect(page.get_by_role("heading", name="trial")).to_be_visible()
    expect(page.get_by_role("row", name="SL Swarm learning nodes")).to_contain_text("Ends soon")
    page.get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove the license").click()
    expect(notice(page)).to_contain_text("License trial is removed")
    page.get_by_role("link", name="Remove the key of Cardio consortium").click()
    page.get_by_role("button", name="Remove the key").click()
    expect(page.get_by_text("No issuer is trusted yet")).to_be_visible()


# --- leases and pools ---


def test_lease_shows_without_a_reload_and_is_gone_without_one(visit, site):
    page = visit("ada")
    page.goto("/")
    expect(page.get_by_text("No node holds a seat")).to_be_visible()
    holder = site.with_node("hospital-a-sl-1")
    expect(page.get_by_role("row", name="hospital-a-sl-1")).to_contain_text("Renewed")
    expect(page.get_by_role("article").filter(has_text="Swarm learning nodes")).to_contain_text("1 of 16 in use")
    lease = site.services.leases.all(SYSTEM)[0]
    site.services.allocator.release(holder, lease.id, lease.token)
    expect(page.get_by_text("No node holds a seat")).to_be_visible()


def test_expelled_node_is_shown_and_readmitted(visit, site):
    site.services.expulsions.hear(LeaseHolder("sn", "hospital-a-sn-1", "ab" * 32), [("sl", "hospital-a-sl-1")])
    page = visit("ada")
    page.goto("/leases")
    expect(page.get_by_role("row").filter(has_text="hospital-a-sn-1")).to_be_visible()
    page.get_by_role("button", name="Readmit hospital-a-sl-1").click()
    expect(notice(page)).to_contain_text("may take seats again")
    assert not site.services.expulsions.all(SYSTEM)


def test_revoked_lease_keeps_its_reason_and_the_node_is_readmitted(visit, site):
    site.with_node("hospital-a-sl-1")
    page = visit("ada")
    page.goto("/leases")
    page.get_by_role("link", name="Revoke the lease of hospital-a-sl-1").click()
    dialog = page.get_by_role("dialog", name="Revoke the lease of hospital-a-sl-1?")
    dialog.get_by_role("button", name="Revoke the lease").click()
    expect(dialog).to_be_visible()  # a reason is needed
    dialog.get_by_label("Reason").fill("Left the study")
    dialog.get_by_role("button", name="Revoke the lease").click()
    expect(notice(page)).to_contain_text("The lease of hospital-a-sl-1 is revoked")
    expect(page.get_by_role("row").filter(has_text="Left the study")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Revoked").first).to_be_visible()
    entry = site.services.audit.all(SYSTEM, action="lease revoked")[0]
    assert (entry.actor, entry.target, entry.details["reason"]) == ("ada", "hospital-a-sl-1", "Left the study")
    page.get_by_role("button", name="Readmit hospital-a-sl-1").click()
    expect(notice(page)).to_contain_text("may take a seat again")
    assert not site.services.leases.revocations(SYSTEM)


def test_leases_are_filtered_and_sorted_and_the_address_says_how(visit, site):
    for name, role in (("clinic-sl-1", "sl"), ("hospital-sl-2", "sl"), ("hospital-sn", "sn")):
        site.with_node(name, role)
    page = visit("ada")
    page.goto("/leases")
    nodes = page.locator("#live tbody td[data-label=Node] a")
    expect(nodes).to_have_text(["hospital-sn", "hospital-sl-2", "clinic-sl-1"])
    page.get_by_role("link", name="Node", exact=True).click()
    expect(nodes).to_have_text(["clinic-sl-1", "hospital-sl-2", "hospital-sn"])
    expect(page.get_by_role("columnheader", name="Node")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("link", name="Node", exact=True).click()
    expect(nodes).to_have_text(["hospital-sn", "hospital-sl-2", "clinic-sl-1"])
    page.get_by_label("Feature", exact=True).select_option("SL")
    expect(nodes).to_have_count(2)
    page.get_by_label("Search").fill("hosp")
    expect(nodes).to_have_text(["hospital-sl-2"])
    expect(page).to_have_url(re.compile("search=hosp.*feature=SL"))
    page.reload()
    expect(nodes).to_have_text(["hospital-sl-2"])
    page.get_by_label("Search").fill("nowhere")
    expect(page.get_by_text("Nothing fits")).to_be_visible()


def test_lease_shows_the_certificate_of_its_node(visit, site):
    holder = site.with_node("hospital-a-sl-1")
    page = visit("ada")
    page.goto("/leases")
    page.get_by_role("link", name="hospital-a-sl-1", exact=True).click()
    certificate = page.get_by_role("region", name="Certificate of the node")
    expect(certificate).to_contain_text("spiffe://swarm.local/sl/hospital-a-sl-1")
    expect(certificate).to_contain_text(holder.fingerprint)
    certificate.get_by_text("PEM").click()
    expect(certificate).to_contain_text("BEGIN CERTIFICATE")


def test_pool_is_restricted_reserved_and_opened_again(visit, site):
    page = visit("ada")
    page.goto("/pools")
    page.get_by_role("link", name="Change whom the pool for SL serves").click()
    page.get_by_label("Nodes, one pattern a line").fill("hospital-*\n\nuniversity-?")
    page.get_by_role("button", name="Save").click()
    pool = page.get_by_role("region", name="SL Swarm learning nodes")
    expect(pool.get_by_role("listitem").filter(has_text="university-?")).to_be_visible()
    page.get_by_role("link", name="Reserve seats for SL").click()
    page.get_by_label("For the nodes").fill("hospital-*")
    page.get_by_label("Seats", exact=True).fill("99")
    page.get_by_label("Seats", exact=True).evaluate("field => field.removeAttribute('max')")
    page.get_by_role("button", name="Reserve", exact=True).click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("99 more are too many")
    page.get_by_label("Seats", exact=True).fill("6")
    page.get_by_role("button", name="Reserve", exact=True).click()
    expect(pool).to_contain_text("6 of them kept for reservations")
    page.get_by_role("button", name="Remove the reservation for hospital-*").click()
    expect(pool).to_contain_text("who comes first is served first")
    assert site.services.pools.all(SYSTEM)[1].allowed == ("hospital-*", "university-?")


# --- history ---


def test_history_is_read_from_the_chart_by_keyboard_and_exported(visit, site):
    site.with_life()
    page = visit("ada")
    page.goto("/usage")
    chart = page.get_by_role("figure", name="SL Swarm learning nodes")
    expect(chart).to_contain_text(re.compile(r"at most \d+"))
    chart.get_by_role("img").focus()
    page.keyboard.press("Home")
    first = chart.locator("[data-reading]").inner_text()
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d\s+\d+ of \d+ in use", first)
    page.keyboard.press("ArrowRight")
    expect(chart.locator("[data-reading]")).not_to_have_text(first)
    page.get_by_role("radio", name="30 days").check()
    expect(page).to_have_url(re.compile("days=30"))
    page.get_by_label("Feature", exact=True).select_option("SL")
    expect(page.get_by_role("figure")).to_have_count(1)
    expect(page.get_by_role("region", name="Refused")).to_contain_text("All 16 seats for SL are in use")
    page.get_by_role("searchbox", name="Node").fill("hospital-c")
    held = page.get_by_role("region", name="Seats that were held").locator("td[data-label=Node]")
    expect(held.first).to_contain_text("hospital-c")
    with page.expect_download() as started:
        page.get_by_role("link", name="CSV").click()
    assert started.value.suggested_filename.startswith("swarm-usage-sl-")
    lines = started.value.path().read_text().splitlines()
    assert lines[0] == "feature,node,fingerprint,taken_at,ended_at,how,seconds"
    assert len(lines) > 100 and all(line.startswith("SL,") for line in lines[1:])


def test_audit_log_is_searched_paged_and_its_chain_checked(visit, site):
    for number in range(60):
        site.services.pools.restrict(SYSTEM, "SL", [f"site-{number}-*"])
    page = visit("ada")
    page.goto("/audit")
    expect(page.get_by_text("The chain holds.")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Older entries").click()
    expect(page.get_by_role("row").filter(has_text="First administrator made ada")).to_be_visible()
    page.goto("/audit")
    page.get_by_label("Search").fill("site-42-")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Search").fill("")
    page.get_by_label("What was done").select_option("signed in")
    expect(page.locator("tbody tr").first).to_contain_text("ada")
    database = site.services.database
    with database.write() as transaction, database.unguarded_audit(transaction):
        transaction.connection.execute(text("UPDATE audit SET details = '{}' WHERE seq = 7"))
    page.reload()
    expect(page.get_by_role("alert").filter(has_text="broken at entry 7")).to_be_visible()


# --- people, tokens, settings ---


def test_user_is_made_changed_disabled_and_removed(visit, site):
    page = visit("ada")
    page.goto("/users")
    page.get_by_role("link", name="New user").click()
    page.get_by_label("Name").fill("grace")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("Password again", exact=True).fill("short")
    page.get_by_role("button", name="Make the user").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    for label in ("Password", "Password again"):
        page.get_by_label(label, exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Make the user").click()
    expect(notice(page)).to_contain_text("grace can sign in as viewer now")
    hers = visit("grace")
    hers.goto("/")
    expect(hers.get_by_role("heading", name="Dashboard")).to_be_visible()

    page.get_by_role("link", name="Change grace").click()
    page.get_by_role("radio", name="operator").check()
    page.get_by_role("button", name="Save the role").click()
    expect(notice(page)).to_contain_text("grace is operator now")
    hers.goto("/audit")
    expect(hers.get_by_role("heading", name="Audit log")).to_be_visible()
    page.get_by_role("link", name="Change grace").click()
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("row", name="grace")).to_contain_text("Disabled")
    hers.goto("/audit")
    expect(hers.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_role("link", name="Change grace").click()
    page.get_by_role("dialog").get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove the user").click()
    expect(page.get_by_role("row", name="grace")).to_have_count(0)


def test_last_administrator_stays_one(visit):
    page = visit("ada")
    page.goto("/users")
    page.get_by_role("link", name="Change ada").click()
    page.get_by_role("radio", name="viewer").check()
    page.get_by_role("button", name="Save the role").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("ada is the last administrator")


def test_own_password_is_changed_and_signs_out_everywhere(visit):
    page, other = visit("ada"), visit("ada")
    page.goto("/account")
    page.get_by_label("Current password", exact=True).fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("another horse battery")
    page.get_by_label("New password again", exact=True).fill("another horse battery")
    page.get_by_role("button", name="Change it").click()
    expect(notice(page)).to_contain_text("Sign in with the new one")
    other.goto("/")
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()


def test_token_is_shown_once_works_and_is_revoked(visit, site, license_files):
    page = visit("ada")
    page.goto("/tokens")
    expect(page.get_by_text("There is no API token")).to_be_visible()
    page.get_by_role("link", name="New token").click()
    page.get_by_label("What it is for").fill("Monitoring")
    page.get_by_role("button", name="Make the token").click()
    shown = page.locator("#token").inner_text()
    page.get_by_role("link", name="I have it").click()
    expect(page.get_by_role("row", name="Monitoring")).to_contain_text("usage:read")
    assert shown not in page.content()
    asked = urllib.request.Request(f"{site.address}/api/v1/pools", headers={"Authorization": f"Bearer {shown}"})
    context = ssl.create_default_context(cafile=license_files.cacert)
    with urllib.request.urlopen(asked, context=context) as answer:
        assert answer.status == 200
    page.get_by_role("link", name="Revoke the token Monitoring").click()
    page.get_by_role("button", name="Revoke the token").click()
    expect(page.get_by_text("There is no API token")).to_be_visible()


def test_settings_are_checked_and_saved(visit, site):
    page = visit("ada")
    page.goto("/settings")
    page.get_by_label("Lease time").fill("20")
    page.get_by_label("Grace period").fill("0.5")
    page.get_by_role("region", name="Leases and history").get_by_role("button", name="Save").click()
    expect(notice(page)).to_contain_text("Saved")
    assert (site.services.settings.values().lease_s, site.services.settings.values().grace_h) == (20, 0.5)
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_text("Saved.")).to_have_count(0)
    hook = page.get_by_role("region", name="Webhook")
    hook.get_by_label("Address").fill("https://alerts.example/swarm")
    hook.get_by_label("Secret").fill(SECRET)
    hook.get_by_label("When a seat is refused").uncheck()
    hook.get_by_role("button", name="Save").click()
    expect(notice(page)).to_contain_text("Saved")
    values = site.services.settings.values()
    assert (values.webhook_url, values.webhook_denials, values.webhook_expiries) == (
        "https://alerts.example/swarm", False, True,
    )  # fmt: skip
    assert values.webhook_secret == SECRET
    assert SECRET not in page.content()
    hook.get_by_label("Address").evaluate("field => { field.removeAttribute('pattern'); field.type = 'text'; }")
    hook.get_by_label("Address").fill("http://plain.example")
    hook.get_by_role("button", name="Save").click()
    expect(hook.get_by_role("alert")).to_contain_text("webhook_url must be an https:// address")


def test_backup_brings_everything_back(visit, site):
    page = visit("ada")
    page.goto("/settings")
    with page.expect_download() as started:
        page.get_by_role("button", name="Download a backup").click()
    backup = started.value.path().read_bytes()
    site.with_user("later", "viewer")
    page.get_by_role("link", name="Restore").click()
    dialog = page.get_by_role("dialog")
    file = {"name": "a.gz", "mimeType": "application/gzip", "buffer": backup[:-9]}
    dialog.get_by_label("Backup").set_input_files(file)
    dialog.get_by_role("button", name="Restore this backup").click()
    expect(dialog.get_by_role("alert")).to_contain_text("This backup cannot be restored: its end is missing")
    dialog.get_by_label("Backup").set_input_files({**file, "buffer": backup})
    dialog.get_by_role("button", name="Restore this backup").click()
    expect(notice(page)).to_contain_text("The backup is restored")
    assert [user.name for user in site.services.accounts.all(SYSTEM)] == ["ada"]


def test_certificate_of_the_server_is_replaced_by_one_that_fits_only(visit, site, pki, foreign_pki):
    page = visit("ada")
    page.goto("/settings")
    page.get_by_role("link", name="Replace the TLS certificate").click()
    dialog, foreign = page.get_by_role("dialog"), foreign_pki.issue("license", "license-1")
    dialog.get_by_label("Certificate").set_input_files(foreign.cert)
    dialog.get_by_label("Private key").set_input_files(foreign.key)
    dialog.get_by_role("button", name="Replace it").click()
    expect(dialog.get_by_role("alert")).not_to_be_empty()
    before = site.services.tls.current().fingerprint
    fresh = pki.issue("license", "license-1")
    dialog.get_by_label("Certificate").set_input_files(fresh.cert)
    dialog.get_by_label("Private key").set_input_files(fresh.key)
    with page.expect_response("**/settings/certificate") as answered:  # this browser trusts the one before alone
        dialog.get_by_role("button", name="Replace it").click()
    assert answered.value.ok
    assert site.services.tls.current().fingerprint != before
    assert site.services.audit.all(SYSTEM, action="certificate replaced")[0].actor == "ada"


# --- the page itself ---


def test_health_is_public_and_tells_no_more_than_it_must(visit, site):
    site.with_node("hospital-a-sl-1")
    page = visit()
    page.goto("/health")
    expect(page.get_by_role("heading", name="The server is well")).to_be_visible()
    assert "hospital" not in page.content() and "ada" not in page.get_by_role("main").inner_text()


def test_server_that_goes_away_is_told_and_so_is_its_return(visit, site):
    page = visit("ada")
    page.goto("/")
    site.stop()
    expect(page.get_by_text("The license server does not answer")).to_be_visible()
    site.start()
    expect(page.get_by_text("The license server does not answer")).to_be_hidden()


def test_page_that_does_not_exist_says_so_with_the_menu_around_it(visit):
    page = visit("ada")
    assert page.goto("/nothing").status == 404
    expect(page.get_by_role("alert").filter(has_text="There is no page /nothing")).to_be_visible()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()


def test_what_a_node_calls_itself_is_text_and_nothing_else(visit, site):
    holder = LeaseHolder("sl", "<script>document.title='owned'</script>", "ab" * 32, "10.0.0.1", "no certificate")
    site.services.allocator.acquire(holder, "SL")
    page = visit("ada")
    page.goto("/leases")
    page.get_by_role("link", name="<script>document.title='owned'</script>", exact=True).click()
    expect(page.get_by_role("heading", name="<script>document.title='owned'</script>", exact=True)).to_be_visible()
    site.services.pools.restrict(SYSTEM, "SL", ["<img src=x onerror=document.title='owned'>"])
    page.goto("/pools")
    expect(page.get_by_text("<img src=x onerror=")).to_be_visible()
    page.goto("/audit?search=%22%3E%3Cscript%3Edocument.title%3D1%3C/script%3E")
    expect(page.get_by_label("Search")).to_have_value('"><script>document.title=1</script>')
    assert page.title().startswith("Audit log")
