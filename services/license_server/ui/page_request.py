"""One request of a browser: who sent it, what it contains, and how to answer it."""

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.errors import FormRefused, SignInRequired
from services.license_server.accounts import UserSession
from services.license_server.actor import Actor
from services.license_server.services import Services
from services.license_server.ui.rendering import Templates

SESSION_COOKIE = "__Host-swarm-session"
FORM_COOKIE = "__Host-swarm-form"  # replaces the session in forms before sign-in
NOTICE_COOKIE = "__Host-swarm-notice"
MAX_NOTICE = 500

_NOBODY = Actor("user", "", frozenset())


@dataclass
class PageRequest:
    """``session`` is None on public pages. Handlers take a request and return a response."""

    services: Services
    request: Request
    templates: Templates
    session: UserSession | None = None
    form: FormData = field(default_factory=FormData)
    _form_token: str = ""

    @property
    def address(self) -> str:
        return self.request.client.host if self.request.client else ""

    @property
    def actor(self) -> Actor:
        return self.session.actor(self.address) if self.session else _NOBODY

    @property
    def htmx(self) -> bool:
        """Whether only a part of a page is requested."""
        return "HX-Request" in self.request.headers

    @property
    def place(self) -> str:
        """Path and query of the current page."""
        url = self.request.url
        return f"{url.path}?{url.query}" if url.query else url.path

    # --- what was sent ---

    def text(self, name: str, default: str = "") -> str:
        value = self.form.get(name, default)
        return value.strip() if isinstance(value, str) else default

    def secret(self, name: str) -> str:
        """A field exactly as typed: a password may begin with a space."""
        value = self.form.get(name, "")
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        return [value for value in self.form.getlist(name) if isinstance(value, str)]

    def file(self, name: str) -> bytes:
        """The uploaded file; b'' if there is none."""
        value = self.form.get(name)
        return value.file.read() if isinstance(value, UploadFile) else b""

    def query(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default).strip()

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])

    # --- who sent it ---

    @property
    def session_secret(self) -> str:
        return self.request.cookies.get(SESSION_COOKIE, "")

    def sign_in_by_cookie(self, *, active: bool) -> None:
        """Raises SignInRequired."""
        if not self.session_secret:
            raise SignInRequired(problem="there is no session")
        self.session = self.services.accounts.session(self.session_secret, active=active)

    @property
    def form_token(self) -> str:
        """A secret in every form, which no other site can know."""
        if self.session is not None:
            return self.session.csrf
        self._form_token = self._form_token or self.request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(32)
        return self._form_token

    def require_own_form(self) -> None:
        """Raises FormRefused for a form from another site or from before the session."""
        expected = self.session.csrf if self.session else self.request.cookies.get(FORM_COOKIE, "")
        given = self.secret("form_token")
        if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
            raise FormRefused()

    # --- answers ---

    def render(self, template: str, status: int = 200, /, **context: Any) -> Response:
        notice = self._notice()
        text = self.templates.render(template, page_request=self, notice=notice, **context)
        response = HTMLResponse(text, status)
        if notice:
            response.delete_cookie(NOTICE_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        if self.session is None and self.request.cookies.get(FORM_COOKIE) != self.form_token:
            _set_cookie(response, FORM_COOKIE, self.form_token)
        return response

    def go(self, where: str, notice: str = "") -> Response:
        """Redirects to another page, which shows the notice once."""
        response: Response = RedirectResponse(where, 303)
        if self.htmx:  # a refresh of the same page keeps its search
            looked_at = urlsplit(self.request.headers.get("HX-Current-URL", "")).path
            same = looked_at == urlsplit(where).path
            response = Response(headers={"HX-Refresh": "true"} if same else {"HX-Redirect": where})
        if notice:
            text = base64.urlsafe_b64encode(notice[:MAX_NOTICE].encode()).decode()
            _set_cookie(response, NOTICE_COOKIE, text, max_age=60)
        return response

    def to_sign_in(self, notice: str = "") -> Response:
        """Redirects to sign-in, and back here afterwards if this is a page."""
        current = urlsplit(self.request.headers.get("HX-Current-URL", ""))
        here = f"{current.path}?{current.query}".rstrip("?") if self.htmx else self.place
        came_back = here if self.htmx or self.request.method == "GET" else ""
        suffix = f"?next={quote(came_back)}" if came_back not in {"", "/"} else ""
        response = self.go(f"/sign-in{suffix}", notice)
        if self.session_secret:
            response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return response

    def keep_session(self, response: Response, session: UserSession) -> Response:
        _set_cookie(response, SESSION_COOKIE, session.secret)
        response.delete_cookie(FORM_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return response

    def _notice(self) -> str:
        if self.htmx:
            return ""
        try:
            return base64.urlsafe_b64decode(self.request.cookies.get(NOTICE_COOKIE, "")).decode()
        except (binascii.Error, ValueError):
            return ""


def own_path(path: str) -> str:
    """``path`` if it is on this server, else '/', so that a link to sign-in cannot lead to another site."""
    parts = urlsplit(path)
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if own and path.isprintable() and "\\" not in path else "/"


def _set_cookie(response: Response, name: str, value: str, max_age: int | None = None) -> None:
    response.set_cookie(name, value, max_age=max_age, path="/", secure=True, httponly=True, samesite="strict")
