"""Compiles the contracts with the pinned solc and writes their artifacts, or checks the committed ones."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = HERE / "src"
ARTIFACTS = HERE / "artifacts"
SOLC = HERE / "solc-json"
CONTRACTS = ("SwarmNetwork", "TrainingContract", "TaskRegistry", "TaskRunner")
SETTINGS: dict[str, Any] = {
    "evmVersion": "london",  # what Clique's geth and the embedded chain both run
    "optimizer": {"enabled": True, "runs": 200},
    "viaIR": True,  # a tenth smaller: a contract has room for 24 KiB
    # Without the metadata hash, bytecode depends on code alone: a comment changes nothing.
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
}


class CompilationFailed(Exception):
    """The compiler is missing or refused the sources; the text says which."""


def compile_contracts() -> dict[str, str]:
    """The text of each artifact by file name, from the sources as they are.

    Installs the compiler from the package-lock where it is missing. Raises CompilationFailed.
    """
    _install_compiler()
    output = _run_compiler({path.name: path.read_text() for path in sorted(SOURCES.glob("*.sol"))})
    artifacts = {}
    for name in CONTRACTS:
        compiled = output["contracts"][f"{name}.sol"][name]
        artifact = {
            "contractName": name,
            "compiler": f"solc {_pinned_version()}",
            "settings": {key: value for key, value in SETTINGS.items() if key != "outputSelection"},
            "abi": sorted(compiled["abi"], key=lambda entry: (entry["type"], entry.get("name", ""))),
            "bytecode": "0x" + compiled["evm"]["bytecode"]["object"],
        }
        artifacts[f"{name}.json"] = json.dumps(artifact, indent=1, sort_keys=True) + "\n"
    return artifacts


def differing_artifacts(compiled: Mapping[str, str]) -> list[str]:
    """Names of the committed artifacts that are not what the sources compile to."""
    return [
        name
        for name, text in compiled.items()
        if not (ARTIFACTS / name).is_file() or (ARTIFACTS / name).read_text() != text
    ]


def _install_compiler() -> None:
    if (HERE / "node_modules" / "solc" / "solc.js").is_file():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise CompilationFailed("npm is not on the PATH; the Solidity compiler comes from it (install Node.js)")
    done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompilationFailed(f"`npm ci` failed in {HERE}:\n{done.stderr}")


def _run_compiler(sources: Mapping[str, str]) -> dict[str, Any]:
    import solcx  # noqa: PLC0415 - development only
    import solcx.exceptions  # noqa: PLC0415

    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": SETTINGS,
    }
    try:
        output: dict[str, Any] = solcx.compile_standard(request, solc_binary=SOLC)
    except solcx.exceptions.SolcError as error:
        raise CompilationFailed(str(error)) from None
    warnings = [message["formattedMessage"] for message in output.get("errors", [])]
    if warnings:
        raise CompilationFailed("Warnings are errors here:\n" + "\n".join(warnings))
    return output


def _pinned_version() -> str:
    lock = json.loads((HERE / "package-lock.json").read_text())
    return str(lock["packages"]["node_modules/solc"]["version"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the artifacts; with ``--check`` only compares, and gives 1 where one differs."""
    parser = argparse.ArgumentParser(prog="python -m contracts.compile", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed artifacts, write nothing")
    options = parser.parse_args(arguments)
    try:
        compiled = compile_contracts()
    except CompilationFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    differing = differing_artifacts(compiled)
    if options.check:
        for name in differing:
            sys.stderr.write(f"contracts/artifacts/{name} is not what the sources compile to\n")
        return 1 if differing else 0
    ARTIFACTS.mkdir(exist_ok=True)
    for name in differing:
        (ARTIFACTS / name).write_text(compiled[name])
        sys.stdout.write(f"wrote contracts/artifacts/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
