"""Turns requests about tasks into what the gateways take, and refuses bad ones before a transaction is sent."""

from services.chain.runner import DESCRIPTION_LIMIT_BYTES, PEERS_LIMIT
from services.chain.task_events import PeerReport, PeerState, TaskHeader
from services.chain.tasks import BODY_LIMIT_BYTES, FIELD_LIMIT_BYTES
from services.errors import MalformedCall, NotEnoughPeers, RunnerFull, TaskNameTaken, TooLong
from services.rpc import swarm_pb2 as pb
from services.runtime import escaping
from services.sn.runner_view import AGENTS_LIMIT, RunnerView
from services.sn.task_book import ROOT_TASK

NAME_LIMIT_CHARACTERS = 128
PEER_NAME_LIMIT_BYTES = 64 + 1 + 32  # of an SL: NAME or NAME/SLOT
RUNNER_PEERS_LIMIT = 8000  # of all SWOPs, as their status is one message
RUN_SWARM = "RUN_SWARM"
TASK_TYPES = (RUN_SWARM, "MAKE_USER_CONTAINER", "PULL_IMAGE", "MAKE_SWARM_USER_CONTENT")
PAGE_TASKS = 200  # so many fit into a message, however long their fields are
PAGE_TOKEN_LIMIT = 18
CUT = " ... "
CUT_FROM_BYTES = 40  # below this, the beginning alone says more than both ends


def header(message: pb.TaskHeader) -> TaskHeader:
    """Raises MalformedCall, TooLong, and TaskNameTaken for the name of the built-in task."""
    name(message.name, "task name")
    if message.name == ROOT_TASK:
        raise TaskNameTaken(name=ROOT_TASK)
    if message.type not in TASK_TYPES:
        raise MalformedCall(field=f"task type ({', '.join(TASK_TYPES)})")
    for field in ("author", "prereq", "outcome"):
        limited(field, getattr(message, field), FIELD_LIMIT_BYTES)
        if not getattr(message, field).isprintable():
            raise MalformedCall(field=f"{field} (printable characters, in one line)")
    return TaskHeader(message.name, message.type, message.author, message.prereq, message.outcome)


def page(token: str) -> int:
    """The number after which a page of tasks begins. Raises MalformedCall for a token that no SN issues."""
    if not token:
        return -1
    if not (token.isascii() and token.isdigit() and len(token) <= PAGE_TOKEN_LIMIT):
        raise MalformedCall(field="page_token")
    return int(token)


def body(text: str) -> bytes:
    """Raises TooLong."""
    limited("the body", text, BODY_LIMIT_BYTES)
    return text.encode()


def name(text: str, field: str) -> str:
    """The name of a contract or a task. Raises MalformedCall."""
    if not text or len(text) > NAME_LIMIT_CHARACTERS or not text.isprintable():
        raise MalformedCall(field=f"{field} (1 to {NAME_LIMIT_CHARACTERS} printable characters)")
    return text


def known_name(text: str) -> str:
    """The name of a task that should exist. Raises TooLong if no task can have it."""
    limited("the task's name", text, FIELD_LIMIT_BYTES)
    return text


def limited(field: str, text: str, limit: int) -> None:
    """Raises TooLong with the size in bytes of UTF-8."""
    if (size := len(text.encode())) > limit:
        raise TooLong(field=field, size=size, limit=limit)


def pairs(count: int) -> int:
    """SL/ML pairs of a SWOP. Raises MalformedCall."""
    if not 0 < count <= PEERS_LIMIT:
        raise MalformedCall(field=f"sl_peers (1 to {PEERS_LIMIT})")
    return count


def check_room(view: RunnerView, agent: str, peers: int) -> None:
    """Raises RunnerFull if a SWOP that attends with ``peers`` would exceed what one status holds."""
    others = [other for other in view.agents.values() if other.name != agent]
    if sum(other.attends for other in others) >= AGENTS_LIMIT:
        raise RunnerFull(runner=view.runner, problem=f"{AGENTS_LIMIT} SWOPs attend it")
    # A SWOP that has quit but left its peers in the task counts as well.
    taken = sum(
        max(other.peers * other.attends, other.brought * (other.enrolled_in == view.assignment)) for other in others
    )
    if taken + peers > RUNNER_PEERS_LIMIT:
        problem = f"it brings {peers} SL peers to {taken}, and {RUNNER_PEERS_LIMIT} SL peers are the most"
        raise RunnerFull(runner=view.runner, problem=problem)


def report(request: pb.ReportPeerRequest, agent: str) -> PeerReport:
    """A text that is too long loses its middle: the beginning says what it is, the end is the newest part.

    Invisible characters are replaced. Raises MalformedCall, TooLong.
    """
    limited("name", request.name, PEER_NAME_LIMIT_BYTES)
    if not request.name.isprintable():
        raise MalformedCall(field="name (printable characters)")
    try:
        state = PeerState(request.state)
    except ValueError:
        raise MalformedCall(field="state") from None
    return PeerReport(
        agent, request.index, state, request.name, shortened(escaping.replaced_in_lines(request.description))
    )


def shortened(text: str, limit: int = DESCRIPTION_LIMIT_BYTES) -> str:
    """At most ``limit`` bytes of UTF-8; cuts no character in two."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    if limit < CUT_FROM_BYTES:
        return raw[:limit].decode(errors="ignore")
    first = limit // 3
    last = limit - first - len(CUT)
    return raw[:first].decode(errors="ignore") + CUT + raw[-last:].decode(errors="ignore")


def needed(request: pb.AssignTaskRequest, view: RunnerView, runs_pairs: bool, present: list[str]) -> int:
    """How many peers an assignment without a target needs. ``present``: SWOPs that attend and are connected.

    Raises NotEnoughPeers if they bring fewer, MalformedCall if none is asked for.
    """
    have = sum(view.agents[agent].peers if runs_pairs else 1 for agent in present)
    need = have if request.all_peers else request.peers
    if need > have or not have:
        raise NotEnoughPeers(need=max(need, 1), have=have)
    if not need:
        raise MalformedCall(field="peers (at least 1)")
    return need
