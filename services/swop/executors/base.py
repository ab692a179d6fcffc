"""What every executor guarantees, whatever runs the nodes."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from services.swop.executors.spec import (
    BuildSpec,
    Image,
    NodeSpec,
    PullSpec,
    Runtime,
    StartedProgram,
    Volume,
    VolumeSpec,
)

TAIL_LINES = 20
TAIL_BYTES = 16 * 1024


class Executor(ABC):
    """Starts programs ("nodes") from images, and makes the volumes and images they need.

    Nodes go on when the SWOP ends or is killed: the next SWOP finds them by their labels, with state and exit code. An
    executor touches only what it is asked to touch by id or name. Every method may be called by many tasks at once and
    may be cancelled; a cancelled ``start`` leaves either a node that ``find`` shows or none.

    Any method may raise RuntimeAbsent, RuntimeForbidden or RuntimeGone (it stopped answering in the middle), and
    RuntimeRefused for a refusal that has no class of its own. All errors are ExecutorError, or DiskFull.
    """

    kind: ClassVar[str]
    shares_host_network: ClassVar[bool]
    """Nodes listen on the host itself: a port inside is the port outside, and 0 is any free one."""
    builds_images: ClassVar[bool]
    """False: images are environments of this host, given by the profile; a build or pull of any other is refused."""

    # --- life ---------------------------------------------------------------------------------------

    @abstractmethod
    async def describe(self) -> Runtime:
        """Asks the runtime what it is. Call this first, and when in doubt about the runtime: its errors say what is
        wrong.
        """

    async def host_path(self, path: str) -> str:
        """Where the runtime finds what this SWOP sees at ``path``."""
        return path

    @abstractmethod
    async def close(self) -> None:
        """Closes the connection to the runtime. Nodes go on."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- nodes --------------------------------------------------------------------------------------

    @abstractmethod
    async def start(self, spec: NodeSpec) -> StartedProgram:
        """Starts a program and returns once it runs (it may already have ended by then). If it cannot be started,
        nothing of it is left.

        Raises ImageMissing, MountMissing (a bind source or volume that does not exist; it is not created),
        MountEscapes, NetworkMissing, PublishedPortInUse, ProgramMissing (the image has no such program, or no such
        working directory, if the runtime does not make one), NodeNameInUse, NotSupported (an option that this executor
        does not have).
        """

    @abstractmethod
    async def node(self, node_id: str) -> StartedProgram:
        """The node's current state. Raises NodeUnknown if it was removed."""

    @abstractmethod
    async def find(self, labels: Mapping[str, str]) -> list[StartedProgram]:
        """All nodes, running or ended, that have all these labels, in the order in which they were started."""

    @abstractmethod
    async def wait(self, node_id: str) -> StartedProgram:
        """Returns once the node has ended. If it is killed and removed meanwhile, this returns how it ended or raises
        NodeUnknown.
        """

    @abstractmethod
    async def tail(self, node_id: str, lines: int = TAIL_LINES, limit_bytes: int = TAIL_BYTES) -> list[str]:
        """The last lines of a running or ended node's output, without control characters and with undecodable bytes
        replaced, from at most ``limit_bytes`` of it. The output kept on disk is bounded, too.
        """

    @abstractmethod
    async def stop(self, node_id: str, grace_s: float) -> StartedProgram:
        """Asks a node to end (TERM), and kills it after the grace, with all processes that it started. Does nothing if
        it has ended. Raises NodeUnknown.
        """

    @abstractmethod
    async def remove(self, node_id: str) -> None:
        """Removes a node, killing it if it runs: processes, ports, log and its own files. Its volumes stay. Does
        nothing if the node is gone.
        """

    # --- volumes ------------------------------------------------------------------------------------

    @abstractmethod
    async def create_volume(self, spec: VolumeSpec) -> Volume:
        """Makes an empty volume. Raises VolumeNameInUse."""

    @abstractmethod
    async def find_volumes(self, labels: Mapping[str, str]) -> list[Volume]:
        """All volumes that have all these labels."""

    @abstractmethod
    async def remove_volume(self, name: str) -> None:
        """Removes a volume with its content. Does nothing if it is gone. Raises VolumeBusy while a node uses it."""

    @abstractmethod
    async def import_volume(self, name: str, directory: Path) -> None:
        """Copies a directory of the SWOP into a volume, over its content, without links that lead out of it. With a
        container engine, root owns the copies and modes are kept; with PROCESS, the SWOP's user owns them, with modes
        0755 or 0644. Raises VolumeMissing.
        """

    # --- images -------------------------------------------------------------------------------------

    @abstractmethod
    async def image(self, name: str) -> Image:
        """An image of this host; a name without a tag means ``latest``. Raises ImageMissing."""

    @abstractmethod
    def build(self, spec: BuildSpec) -> AsyncGenerator[str, None]:
        """Builds an image, yields its output line by line, and tags the image when all is done; until then an existing
        image of this name stays. Close the generator if you stop early. The steps see neither the runtime's socket nor
        anything of the SWOP. A build that fails or is closed early leaves no container.

        Raises VolumeMissing, VolumeEmpty, VolumeTooLarge, BuildFailed (the step, and the last 20 lines), DiskFull,
        ImageNotMapped.
        """

    @abstractmethod
    def pull(self, spec: PullSpec) -> AsyncGenerator[str, None]:
        """Fetches an image and yields its progress line by line. Raises PullFailed, AuthFileUnusable, DiskFull,
        ImageNotMapped.
        """

    @abstractmethod
    async def remove_image(self, name: str) -> None:
        """Removes an image's name, and its content if nothing else uses it. Does nothing if the image is gone."""


def carries(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """True if ``labels`` has all of ``wanted``."""
    return wanted.items() <= labels.items()


def last_lines(output: bytes, lines: int, limit_bytes: int) -> list[str]:
    """The last lines of a program's output, fit to be shown: see ``Executor.tail``."""
    text = output[-limit_bytes:].decode(errors="replace")
    shown = ("".join(c for c in line if c.isprintable() or c == "\t").rstrip() for line in text.splitlines())
    return [line for line in shown if line][-lines:]


def joined(lines: Sequence[str]) -> str:
    """Lines of output, to append to an error's text."""
    return "".join(f"\n  {line}" for line in lines) or " (nothing was written)"
