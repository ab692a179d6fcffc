"""What every executor guarantees, whichever program runs the nodes."""

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

    What it started lives on when the SWOP ends or is killed: the next one finds it by its labels, with state and
    exit code. It touches nothing that it was not asked to touch by id or name. Every method may be called by many
    tasks at once and may be cancelled; a cancelled ``start`` leaves a node that ``find`` shows, or none.

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
        """Asks the runtime what it is. Call it first, and whenever it is in doubt: it fails in a sentence."""

    async def host_path(self, path: str) -> str:
        """Where the runtime finds what this SWOP sees at ``path``."""
        return path

    @abstractmethod
    async def close(self) -> None:
        """Lets go of the runtime. Nodes go on."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- nodes --------------------------------------------------------------------------------------

    @abstractmethod
    async def start(self, spec: NodeSpec) -> StartedProgram:
        """Starts a program and returns once it runs (it may have ended since). Where it cannot be started,
        nothing of it is left.

        Raises ImageMissing, MountMissing (a bind source or volume that is not there; nothing is made in its place),
        MountEscapes, NetworkMissing, PublishedPortInUse, ProgramMissing (the image has no such program, or no such
        working directory where the runtime does not make one), NodeNameInUse, NotSupported (an option that this
        executor does not have).
        """

    @abstractmethod
    async def node(self, node_id: str) -> StartedProgram:
        """What it is like now. Raises NodeUnknown where it was removed."""

    @abstractmethod
    async def find(self, labels: Mapping[str, str]) -> list[StartedProgram]:
        """All nodes, running or ended, that carry all these labels; in the order of their start."""

    @abstractmethod
    async def wait(self, node_id: str) -> StartedProgram:
        """Returns once it has ended, at once where it has. Where it is killed and removed meanwhile, this tells
        that end or raises NodeUnknown."""

    @abstractmethod
    async def tail(self, node_id: str, lines: int = TAIL_LINES, limit_bytes: int = TAIL_BYTES) -> list[str]:
        """The last lines it wrote, running or ended: no control characters, undecodable bytes replaced, at most
        ``limit_bytes`` in all. What a node writes is bounded on disk, too."""

    @abstractmethod
    async def stop(self, node_id: str, grace_s: float) -> StartedProgram:
        """Asks it to end (TERM), and ends it after the grace, with all that it started. Nothing to do where it
        has ended. Raises NodeUnknown."""

    @abstractmethod
    async def remove(self, node_id: str) -> None:
        """Kills it where it runs and removes it: processes, ports, log, files of its own; nothing to do where it is
        gone. Its volumes stay."""

    # --- volumes ------------------------------------------------------------------------------------

    @abstractmethod
    async def create_volume(self, spec: VolumeSpec) -> Volume:
        """Makes a volume, empty. Raises VolumeNameInUse."""

    @abstractmethod
    async def find_volumes(self, labels: Mapping[str, str]) -> list[Volume]:
        """All volumes that carry all these labels."""

    @abstractmethod
    async def remove_volume(self, name: str) -> None:
        """Removes it with its content; nothing to do where it is gone. Raises VolumeBusy while a node has it."""

    @abstractmethod
    async def import_volume(self, name: str, directory: Path) -> None:
        """Copies a directory of the SWOP into a volume, over what is there, without links that lead out of it; owners
        are root's, rights are kept. Raises VolumeMissing."""

    # --- images -------------------------------------------------------------------------------------

    @abstractmethod
    async def image(self, name: str) -> Image:
        """An image of this host; a name without a tag means ``latest``. Raises ImageMissing."""

    @abstractmethod
    def build(self, spec: BuildSpec) -> AsyncGenerator[str, None]:
        """Builds an image, line by line of its output (close the generator where you leave it early), and tags it when
        all is done; until then an image of this name stays what it was. The steps see neither the runtime's socket
        nor anything of the SWOP. A build that fails or that is closed early leaves no container.

        Raises VolumeMissing, VolumeEmpty, VolumeTooLarge, BuildFailed (the step, and the last 20 lines), DiskFull,
        ImageNotMapped.
        """

    @abstractmethod
    def pull(self, spec: PullSpec) -> AsyncGenerator[str, None]:
        """Fetches an image, line by line of its progress. Raises PullFailed, AuthFileUnusable, DiskFull,
        ImageNotMapped."""

    @abstractmethod
    async def remove_image(self, name: str) -> None:
        """Removes an image's name, and its content where nothing else uses it; nothing to do where it is gone."""


def carries(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """True where ``labels`` has all of ``wanted``."""
    return wanted.items() <= labels.items()


def last_lines(output: bytes, lines: int, limit_bytes: int) -> list[str]:
    """The last lines of a program's output, fit to be shown: see ``Executor.tail``."""
    text = output[-limit_bytes:].decode(errors="replace")
    shown = ("".join(c for c in line if c.isprintable() or c == "\t").rstrip() for line in text.splitlines())
    return [line for line in shown if line][-lines:]


def joined(lines: Sequence[str]) -> str:
    """Lines for the end of an error's sentence."""
    return "".join(f"\n  {line}" for line in lines) or " (nothing was written)"
