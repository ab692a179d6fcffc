"""Access to pages: sessions, forms of our own, and what people see if they are refused."""

from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.errors import FormRefused, SignInRequired, SwarmError
from services.license_server.ui.page_request import PageRequest
from services.runtime import logs
from services.web.answers import status_of

Handler = Callable[[PageRequest], Response]
Answered = TypeVar("Answered")

MAX_FIELDS = 200
MAX_FILES = 4

_log = logs.get("license-server")


def page(path: str, handler: Handler, *, public: bool = False, refreshes: bool = False) -> Route:
    """A GET route. ``refreshes``: pages request it by themselves, so it does not keep a session alive."""
    return _route(path, handler, "GET", public=public, refreshes=refreshes)


def action(path: str, handler: Handler, *, public: bool = False) -> Route:
    """A POST route, for a form that this server gave to this browser."""
    return _route(path, handler, "POST", public=public, refreshes=False)


def _route(path: str, handler: Handler, method: str, *, public: bool, refreshes: bool) -> Route:
    async def answer(request: Request) -> Response:
        page_request = page_request_of(request)
        if method == "GET":
            return await run_in_threadpool(
                _answered, page_request, lambda: _ask(page_request, handler, public, not refreshes)
            )
        refused = await run_in_threadpool(_answered, page_request, lambda: _admit(page_request, public))
        if refused is not None:  # a form is read only once its sender is known
            return refused
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS) as form:
            page_request.form = form
            return await run_in_threadpool(_answered, page_request, lambda: _take(page_request, handler))

    return Route(path, answer, methods=[method])


def page_request_of(request: Request) -> PageRequest:
    return PageRequest(request.app.state.services, request, request.app.state.templates)


def _ask(page_request: PageRequest, handler: Handler, public: bool, active: bool) -> Response:
    if not public:
        page_request.sign_in_by_cookie(active=active)
    return handler(page_request)


def _admit(page_request: PageRequest, public: bool) -> None:
    """Before the form is read. Raises SignInRequired, FormRefused."""
    if not public:
        page_request.sign_in_by_cookie(active=True)
    _require_own_page(page_request.request)


def _take(page_request: PageRequest, handler: Handler) -> Response:
    """Raises FormRefused."""
    page_request.require_own_form()
    return handler(page_request)


def _answered(page_request: PageRequest, work: Callable[[], Answered]) -> Answered | Response:
    """The result of ``work``, or a page that says why it was refused."""
    try:
        return work()
    except SignInRequired:
        return page_request.to_sign_in(
            "Your session has ended. Sign in again to go on." if page_request.session_secret else ""
        )
    except SwarmError as error:
        _log.warning("refused", path=page_request.request.url.path, code=error.code, why=str(error))
        return refuse(page_request, error)
    except Exception:
        _log.exception("a page failed", path=page_request.request.url.path)
        return refuse(page_request, SwarmError(detail="this page"))


def refuse(page_request: PageRequest, error: SwarmError) -> Response:
    """Shows an error, within the form that was sent or on a page of its own."""
    told = type(error)(**{"address": "this server", **error.facts})
    status = status_of(error)
    if page_request.htmx:
        return page_request.render("problem.html", status, error=told)
    return page_request.render("error.html", status, error=told, http_status=status)


def _require_own_page(request: Request) -> None:
    """Raises FormRefused for requests from other sites. Browsers report the site; other clients do not know the form's
    token.
    """
    headers = request.headers
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin", "null")
    if site is not None and site not in {"same-origin", "none"}:
        raise FormRefused()
    if site is None and origin not in {"null", f"https://{headers.get('Host', '')}"}:
        raise FormRefused()
