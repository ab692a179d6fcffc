"""Imports run one way, and importing a module does nothing else."""

import ast
import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("services", "swarm_callback", "swarmlearning", "contracts", "benchmarks")
NODES = ("sn", "sl", "swop", "swci", "license_server")

# Folder below services/ -> what else below services/ it may import.
FOUNDATION = {"errors", "runtime"}
SHARED = {"chain", "rpc", "licensing", "merge", "identity", "web"} | FOUNDATION
ALLOWED = {
    "errors": set(),
    "runtime": {"errors"},
    "merge": set(),
    "identity": {"tasks"} | FOUNDATION,
    "licensing": {"identity"} | FOUNDATION,
    "rpc": {"identity"} | FOUNDATION,
    "chain": FOUNDATION,
    "scripts": FOUNDATION,
    "preflight": {"identity", "licensing", "rpc", "scripts"} | FOUNDATION,
    "provision": {"identity", "scripts", "tasks"} | FOUNDATION,
    "tasks": FOUNDATION,
    "units": {"identity"} | FOUNDATION,
    "web": {"identity"} | FOUNDATION,
    "sn": SHARED,
    "sl": SHARED,
    "swop": SHARED | {"tasks"},
    "swci": SHARED | {"tasks"},
    "license_server": SHARED,
    "local": SHARED,
    "audit": {"identity", "rpc"} | FOUNDATION,
    "cli": SHARED | {"audit", "local", "preflight", "provision", "tasks", "units", *NODES},
}
FRAMEWORK_MODULES = {"swarm_callback.keras", "swarm_callback.torch", "swarmlearning.tf", "swarmlearning.pyt"}
PEER_MODULES = {"benchmarks.nvflare_client", "benchmarks.nvflare_job"}  # run in the peer's own environment


def modules() -> list[str]:
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    names = (
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if "node_modules" not in path.parts
    )
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


ALL_MODULES = set(modules())


def source_of(name: str) -> str:
    path = ROOT.joinpath(*name.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def imported_by(name: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(_parsed(source_of(name))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def _parsed(source: str) -> ast.AST:
    """Python 3.11 may fail with a SystemError where garbage is collected while it builds a tree (CPython 106905)."""
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.enable()


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("services.")])
def test_service_imports_only_what_lies_below_it(name: str) -> None:
    folder = name.split(".")[1]
    below = {target.split(".")[1] for target in imported_by(name) if target.startswith("services.")}
    assert below - {folder} <= ALLOWED[folder]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even inside a function; what is for type checkers alone does not count."""
    names = {name for name in modules() if name.startswith("services.")}
    try:
        TopologicalSorter({name: (needed_by(name) & names) - {name} for name in names}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def needed_by(name: str) -> set[str]:
    """What is imported at run time; a package only where that is meant, not a module in it."""
    found: set[str] = set()
    for node in ast.walk(_WithoutTypeChecking().visit(_parsed(source_of(name)))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & ALL_MODULES
            found.update(inside or {node.module})
    return found


class _WithoutTypeChecking(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith(("swarm_callback", "swarmlearning"))])
def test_what_a_training_script_imports_needs_no_service(name: str) -> None:
    assert not {target for target in imported_by(name) if target.startswith(("services", "contracts"))}


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("services.merge")])
def test_merge_needs_numpy_and_nothing_else_of_ours(name: str) -> None:
    outside = {target.split(".")[0] for target in imported_by(name)} - set(sys.stdlib_module_names)
    assert outside <= {"numpy", "services"}


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("services.sl")])
def test_sl_starts_without_a_chain_or_a_web_framework(name: str) -> None:
    heavy = {"web3", "eth_account", "eth_tester", "fastapi", "sqlalchemy", "contracts"}
    assert not {target for target in imported_by(name) if target.split(".")[0] in heavy}


@pytest.mark.parametrize("name", ["sl", "swci", "license_server"])
def test_a_node_whose_image_lacks_the_libraries_of_the_chain_starts_without_them(name: str) -> None:
    locked = (ROOT / "docker" / "locks" / "chain.txt").read_text()
    only_there = {"web3": "web3", "eth-account": "eth_account", "eth-utils": "eth_utils", "py-evm": "eth", "rlp": "rlp"}
    assert all(f"{package}==" in locked for package in only_there)
    program = f"import services.cli.nodes, services.{name}.main, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(only_there.values()) & set(done.stdout.split())


@pytest.mark.timeout(600)
def test_a_license_server_starts_without_the_libraries_of_a_client() -> None:
    program = "import sys, services.license_server.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"aiohttp", "grpc"} & set(done.stdout.split())


def test_every_module_imports_alone_and_silently() -> None:
    """Each in a fresh interpreter, so that no module leans on another having been imported before."""
    names = [name for name in modules() if name not in FRAMEWORK_MODULES | PEER_MODULES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = dict(zip(names, pool.map(import_alone, names), strict=True))
    assert {name: words for name, words in said.items() if words} == {}


def import_alone(name: str) -> str:
    """What the interpreter says; nothing, where all is well."""
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", f"import {name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    return f"{done.returncode or ''}{done.stdout}{done.stderr}"
