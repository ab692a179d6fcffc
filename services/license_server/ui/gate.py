"""Who may pass to a page: session, forms that are ours, and what people see where they may not."""

from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.errors import FormRefused, SignInRequired, SwarmError
from services.license_server.ui.visit import Visit
from services.runtime import logs
from services.web.answers import status_of

Handler = Callable[[Visit], Response]
Answered = TypeVar("Answered")

MAX_FIELDS = 200
MAX_FILES = 4

_log = logs.get("license-server")


def page(path: str, handler: Handler, *, public: bool = False, refreshes: bool = False) -> Route:
    """GET. ``refreshes``: the page asks for it by itself, so it does not keep a session from ending."""
    return _route(path, handler, "GET", public=public, refreshes=refreshes)


def action(path: str, handler: Handler, *, public: bool = False) -> Route:
    """POST of a form that this server gave to this browser."""
    return _route(path, handler, "POST", public=public, refreshes=False)


def _route(path: str, handler: Handler, method: str, *, public: bool, refreshes: bool) -> Route:
    async def answer(request: Request) -> Response:
        visit = visit_of(request)
        if method == "GET":
            return await run_in_threadpool(_answered, visit, lambda: _ask(visit, handler, public, not refreshes))
        refused = await run_in_threadpool(_answered, visit, lambda: _admit(visit, public))
        if refused is not None:  # nobody's form is taken in before it is known whose it is
            return refused
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS) as form:
            visit.form = form
            return await run_in_threadpool(_answered, visit, lambda: _take(visit, handler))

    return Route(path, answer, methods=[method])


def visit_of(request: Request) -> Visit:
    return Visit(request.app.state.office, request, request.app.state.templates)


def _ask(visit: Visit, handler: Handler, public: bool, active: bool) -> Response:
    if not public:
        visit.sign_in_by_cookie(active=active)
    return handler(visit)


def _admit(visit: Visit, public: bool) -> None:
    """Before the form is read. Raises SignInRequired, FormRefused."""
    if not public:
        visit.sign_in_by_cookie(active=True)
    _require_own_page(visit.request)


def _take(visit: Visit, handler: Handler) -> Response:
    """Raises FormRefused."""
    visit.require_own_form()
    return handler(visit)


def _answered(visit: Visit, work: Callable[[], Answered]) -> Answered | Response:
    """What ``work`` gives, or a page that says why it was refused."""
    try:
        return work()
    except SignInRequired:
        return visit.to_sign_in("Your session has ended. Sign in again to go on." if visit.session_secret else "")
    except SwarmError as error:
        _log.warning("refused", path=visit.request.url.path, code=error.code, why=str(error))
        return refuse(visit, error)
    except Exception:
        _log.exception("a page failed", path=visit.request.url.path)
        return refuse(visit, SwarmError(detail="this page"))


def refuse(visit: Visit, error: SwarmError) -> Response:
    """A sentence in the form that was sent, or a page of its own."""
    told = type(error)(**{"address": "this server", **error.facts})
    status = status_of(error)
    if visit.htmx:
        return visit.render("problem.html", status, error=told)
    return visit.render("error.html", status, error=told, http_status=status)


def _require_own_page(request: Request) -> None:
    """Raises FormRefused for what another site sent. Browsers say so; others do not know the form's token either."""
    headers = request.headers
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin", "null")
    if site is not None and site not in {"same-origin", "none"}:
        raise FormRefused()
    if site is None and origin not in {"null", f"https://{headers.get('Host', '')}"}:
        raise FormRefused()
