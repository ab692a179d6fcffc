"""Who gets in, for how long, and what a page does for nobody else."""

import re
from datetime import UTC, datetime

import pytest
from license_site import PASSWORD, Site
from playwright.sync_api import Page, expect

from services.errors import SignInFailed
from services.license_server import credentials
from services.license_server.actor import SYSTEM
from services.license_server.request_limits import HEADERS
from services.license_server.sign_in_locks import lock_s

WRONG = "wrong horse battery"
IDLE_S = 31 * 60
SESSION, FORM = "__Host-swarm-session", "__Host-swarm-form"


@pytest.fixture(autouse=True)
def _users(site: Site) -> None:
    site.with_admin()
    site.with_user("grace", "operator")
    site.with_user("linus", "viewer")


def sign_in(page: Page, name: str = "ada", password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def form_token(page: Page) -> str:
    return page.locator("input[name=form_token]").first.get_attribute("value")


def test_page_that_was_asked_for_opens_after_signing_in(visit):
    page = visit()
    page.goto("/leases?feature=SL")
    sign_in(page)
    expect(page).to_have_url(re.compile(r"/leases\?feature=SL$"))
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status").first).to_contain_text("You are signed out")
    page.goto("/leases")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "/\tx"])
def test_sign_in_leads_nobody_to_another_site(visit, site, elsewhere):
    page = visit()
    page.goto("/sign-in")
    page.locator("input[name=next]").evaluate("(field, value) => { field.value = value; }", elsewhere)
    sign_in(page)
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    assert page.url.startswith(site.address)


def test_wrong_passwords_are_refused_then_locked_out_for_longer_each_time(visit, site):
    page = visit()
    page.goto("/sign-in")
    for _ in range(3):
        sign_in(page, password=WRONG)
        expect(page.get_by_role("alert")).to_contain_text("The name, the password or the code is wrong")
        page.get_by_role("alert").evaluate("slot => slot.replaceChildren()")
    sign_in(page)
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"the next one is possible in 1 s"))
    site.skip(2)
    sign_in(page, password=WRONG)
    expect(page.get_by_role("alert")).to_contain_text("is wrong")
    sign_in(page)
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"the next one is possible in [23] s"))
    site.skip(4)
    sign_in(page)
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()


def test_administrator_sees_that_a_name_is_locked_for_an_address_and_unlocks_it(visit, site):
    for failures in range(9):  # the last one locks for a minute
        site.skip(lock_s(failures) + 1)
        with pytest.raises(SignInFailed):
            site.services.accounts.sign_in("grace", WRONG, "", "192.0.2.7")
    site.services.accounts.sign_in("grace", PASSWORD, "", "198.51.100.9")
    page = visit("ada")
    page.goto("/users")
    expect(page.get_by_role("row", name="grace")).to_contain_text("Locked")
    page.get_by_role("link", name="Change grace").click()
    page.get_by_role("button", name="Unlock all addresses").click()
    expect(page.get_by_role("status").first).to_contain_text("grace can sign in from every address again")
    expect(page.get_by_role("row", name="grace")).to_contain_text("Active")


def test_somebody_who_tries_on_and_on_gets_a_sentence_not_a_data_structure(visit):
    page = visit()
    page.goto("/sign-in")
    for _ in range(11):
        sign_in(page, name="nobody", password=WRONG)
        expect(page.get_by_role("alert")).not_to_be_empty()
        told = page.get_by_role("alert").inner_text()
        page.get_by_role("alert").evaluate("slot => slot.replaceChildren()")
    assert re.search(r"Too many requests from 127\.0\.0\.1\. Try again in \d+ s\.", told)


def test_idle_session_ends_and_a_page_that_refreshes_itself_does_not_keep_it(visit, site):
    page = visit("ada")
    page.goto("/leases")
    site.skip(IDLE_S / 2)
    assert page.request.get("/leases/live").status == 200
    site.skip(IDLE_S / 2 + 60)
    expect(page).to_have_url(re.compile(r"/sign-in\?next=/leases"))  # by itself
    expect(page.get_by_role("status").first).to_contain_text("Your session has ended")
    sign_in(page)
    expect(page.get_by_role("heading", name="Leases", exact=True)).to_be_visible()


def test_session_that_is_used_goes_on_but_not_for_ever(visit, site):
    page = visit("ada")
    for _ in range(30):
        site.skip(IDLE_S - 120)
        page.goto("/pools")
        if "/sign-in" in page.url:
            break
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_form_of_an_ended_session_leads_to_the_sign_in_and_changes_nothing(visit, site):
    site.with_node("sl-1")
    page = visit("ada")
    page.goto("/leases")
    page.get_by_role("link", name="Revoke the lease of sl-1").click()
    page.get_by_label("Reason").fill("It is late")
    for secret in [cookie["value"] for cookie in page.context.cookies() if cookie["name"] == SESSION]:
        site.services.accounts.sign_out(secret, "127.0.0.1")
    page.get_by_role("button", name="Revoke the lease").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert not site.services.leases.revocations(SYSTEM)


def test_form_from_another_site_or_with_another_token_is_refused(visit, site):
    page = visit("ada")
    page.goto("/account")
    good = form_token(page)
    form = {"name": "eve", "role": "admin", "password": PASSWORD, "again": PASSWORD}
    for headers, token in [
        ({}, ""),
        ({}, "x" * len(good)),
        ({}, site.services.accounts.sign_in("linus", PASSWORD, "", "").csrf),
        ({"Sec-Fetch-Site": "cross-site"}, good),
        ({"Sec-Fetch-Site": "same-site"}, good),
        ({"Origin": "https://evil.example"}, good),
    ]:
        answer = page.request.post("/users/new", form={**form, "form_token": token}, headers=headers)
        assert answer.status == 403
        assert "This form is out of date, or it was sent from somewhere else" in answer.text()
    assert [user.name for user in site.services.accounts.all(SYSTEM)] == ["ada", "grace", "linus"]
    answer = page.request.post("/users/new", form={**form, "form_token": good}, headers={"Origin": site.address})
    assert answer.ok, answer.text()


def test_sign_in_form_needs_its_own_token_too(visit):
    page = visit()
    page.goto("/sign-in")
    answer = page.request.post("/sign-in", form={"name": "ada", "password": PASSWORD, "form_token": "guessed"})
    assert answer.status == 403
    assert SESSION not in {cookie["name"] for cookie in page.context.cookies()}


def test_cookies_are_kept_from_scripts_other_sites_and_plain_connections(visit):
    page = visit()
    page.goto("/sign-in")
    before = {cookie["name"]: cookie for cookie in page.context.cookies()}
    sign_in(page)
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    after = {cookie["name"]: cookie for cookie in page.context.cookies()}
    for cookie in (before[FORM], after[SESSION]):
        assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["path"] == "/"
    assert FORM not in after
    assert page.evaluate("document.cookie") == ""


def test_every_page_has_the_strict_policies(visit):
    page = visit("ada")
    for path in ("/", "/sign-in", "/usage", "/nothing", "/static/app.js"):
        headers = page.request.get(path).headers
        for name, value in HEADERS.items():
            if not (path.startswith("/static") and name == b"cache-control"):
                assert headers[name.decode()] == value.decode(), path
    assert "unsafe" not in page.request.get("/").headers["content-security-policy"]


def test_no_page_has_a_script_or_style_in_it(visit):
    page = visit("ada")
    for path in ("/", "/licenses", "/pools", "/leases", "/usage", "/audit", "/users", "/tokens", "/settings"):
        text = page.request.get(path).text()
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son[a-z]+=|javascript:|hx-on", text), path


def test_viewer_sees_but_changes_nothing(visit, site):
    site.with_node("sl-1")
    lease = site.services.leases.all(SYSTEM)[0].id
    page = visit("linus")
    page.goto("/leases")
    expect(page.get_by_role("link", name="sl-1")).to_be_visible()
    expect(page.get_by_text("Revoke")).to_have_count(0)
    menu = page.get_by_role("navigation", name="Main")
    expect(menu.get_by_role("link")).to_have_text(["Dashboard", "Licenses", "Pools", "Leases", "Usage"])
    for path in ("/pools", "/licenses"):
        page.goto(path)
        expect(page.locator("main .button:not([data-copies])")).to_have_count(0)
    refused = ["/licenses/install", "/audit", "/users", "/tokens", "/settings", f"/leases/{lease}/revoke"]
    for path in refused:
        assert page.request.get(path).status == 403, path
    page.goto("/account")
    token = form_token(page)
    for path, form in (
        (f"/leases/{lease}/revoke", {"reason": "because"}),
        ("/pools/SL/restrict", {"patterns": "nobody"}),
        ("/licenses/install", {"content": "e30="}),
        ("/licenses/community/remove", {}),
        ("/users/new", {"name": "eve", "role": "admin", "password": PASSWORD, "again": PASSWORD}),
        ("/tokens/new", {"name": "eve", "scope": "users:write", "days": "7"}),
        ("/settings/leases", {"lease_s": "5", "grace_h": "0", "expiry_warning_days": "1", "keep_days": "1"}),
        ("/settings/backup", {}),
    ):
        answer = page.request.post(path, form={**form, "form_token": token})
        assert answer.status in {400, 403}, path
        assert path == "/licenses/install" or "linus may not do this" in answer.text()
    assert not site.services.leases.revocations(SYSTEM)
    assert [user.name for user in site.services.accounts.all(SYSTEM)] == ["ada", "grace", "linus"]


def test_operator_runs_the_pools_but_not_the_people(visit, site):
    page = visit("grace")
    page.goto("/pools")
    page.get_by_role("link", name="Reserve seats for SL").click()
    page.get_by_label("For the nodes").fill("university-*")
    page.get_by_label("Seats", exact=True).fill("3")
    page.get_by_role("button", name="Reserve", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("Seats for SL are reserved for university-*")
    page.goto("/settings")
    expect(page.get_by_label("Lease time")).to_be_disabled()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    for path in ("/users", "/tokens", "/settings/restore"):
        assert page.request.get(path).status == 403, path


def test_second_factor_is_set_up_asked_for_and_never_sends_the_password_back(visit, site):
    page = visit("ada")
    page.goto("/account")
    page.get_by_role("link", name="Set up an authenticator app").click()
    expect(page.get_by_role("img", name="QR code with the secret")).to_be_visible()
    secret = page.locator("#totp-secret").inner_text()
    page.get_by_label("Code that the app shows now").fill("000000")
    page.get_by_label("Your password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Turn it on").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("is wrong")
    page.get_by_label("Code that the app shows now").fill(code_of(site, secret))
    page.get_by_role("button", name="Turn it on").click()
    expect(page.get_by_role("status").first).to_contain_text("needs a code of your app as well")
    page.get_by_role("button", name="Sign out").first.click()

    sign_in(page)
    with page.expect_response("**/sign-in") as answered:
        page.get_by_role("button", name="Sign in").click()
    assert PASSWORD not in answered.value.text()
    site.skip(30)  # a code is good once
    page.get_by_label("Code of your authenticator app").fill(code_of(site, secret))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()


def test_everything_goes_without_scripts(visit, site):
    site.with_node("sl-1")
    page = visit(java_script_enabled=False)
    page.goto("/leases")
    sign_in(page, password=WRONG)
    expect(page.get_by_role("alert")).to_contain_text("is wrong")
    page.goto("/sign-in?next=/leases")
    sign_in(page)
    page.get_by_role("link", name="Revoke the lease of sl-1").click()
    expect(page.get_by_role("heading", name="Revoke the lease of sl-1?")).to_be_visible()
    page.get_by_label("Reason").fill("Left the study")
    page.get_by_role("button", name="Revoke the lease").click()
    expect(page.get_by_role("status").first).to_contain_text("The lease of sl-1 is revoked")
    assert site.services.leases.revocations(SYSTEM)[0].reason == "Left the study"


def code_of(site: Site, secret: str) -> str:
    with site.services.database.read() as transaction:
        now = datetime.fromtimestamp(transaction.wall, UTC).timestamp()
    return credentials.totp_code(secret, int(now // credentials.TOTP_STEP_S))
