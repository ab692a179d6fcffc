"""Generates swarm_pb2.py and swarm_pb2.pyi from swarm.proto: ``python -m services.rpc.generate``."""

import sys
import tempfile
from importlib import resources
from pathlib import Path

HERE = Path(__file__).parent
GENERATED = ("swarm_pb2.py", "swarm_pb2.pyi")


def generate(target: Path) -> None:
    """Writes both files into ``target``. Raises RuntimeError if protoc refuses the definition."""
    from grpc_tools import protoc  # noqa: PLC0415  only developers have it

    includes = resources.files("grpc_tools").joinpath("_proto")
    arguments = ["protoc", f"-I{HERE}", f"-I{includes}"]
    arguments += [f"--{kind}_out={target}" for kind in ("python", "pyi")]
    if protoc.main([*arguments, "swarm.proto"]) != 0:
        raise RuntimeError(f"protoc refused {HERE / 'swarm.proto'}")


def outdated() -> list[str]:
    """Names of committed files that differ from what swarm.proto generates now."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory)
        generate(target)
        return [name for name in GENERATED if (HERE / name).read_bytes() != (target / name).read_bytes()]


if __name__ == "__main__":
    generate(HERE)
    sys.exit(0)
