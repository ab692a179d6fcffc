"""`swarm status`: which processes of a local swarm run, and the state of its training."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from services.errors import ChainError, NotRunning, SNUnreachable
from services.identity.identity import Identity
from services.licensing.features import NOTE
from services.local.certificates import admin_identity
from services.local.plan import ADMIN, HOST
from services.local.state import Running, SwarmState
from services.local.swarm import CONTRACT
from services.local.view import rows
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.measures import measure, measure_in_json, shown
from services.rpc.wording import change_in_words, describe_result, ends_soon, headline, moment_utc


async def local_status(directory: Path) -> dict[str, Any]:
    """Processes, members and training as plain data (the output of ``--json``).

    Raises NotRunning if no swarm runs there, SNUnreachable if none of its SNs answers.
    """
    state = SwarmState.read(directory)
    if not state.supervisor.alive and not any(process.alive for process in state.processes):
        raise NotRunning(dir=directory)
    found: dict[str, Any] = {
        "dir": str(directory),
        "chain": state.chain,
        "sn": state.sn_address,
        "processes": [
            {
                "name": process.name,
                "pid": process.pid,
                "port": process.port,
                "alive": process.alive,
                "log": process.log,
                "license": _license(directory, process),
            }
            for process in state.processes
        ],
        "sns": [],
        "certificates_end": {},
        "proposals": [],
        "missing": "",
        "training": None,
    }
    addresses = [f"{HOST}:{process.port}" for process in state.processes if _is_sn(process)]
    if addresses:
        found |= await first_answer(addresses, admin_identity(directory, ADMIN))
    return found


def _license(directory: Path, process: Running) -> dict[str, Any] | None:
    """What a running node has noted about its license; None if there is no note."""
    try:
        note: dict[str, Any] = json.loads((directory / process.name / NOTE).read_text())
    except (OSError, ValueError):
        return None
    return note if process.alive else None


def _is_sn(process: Running) -> bool:
    return process.name.startswith("sn-") and process.port > 0


async def first_answer(addresses: list[str], admin: Identity) -> dict[str, Any]:
    """SNs, certificate ends, proposals, training: from the first SN that answers. Raises SNUnreachable if none does.

    ``missing``: what this SN cannot tell while it is without its chain, and why; empty if nothing.
    """
    for address in addresses[:-1]:
        with contextlib.suppress(SNUnreachable):
            return await _asked(address, admin)
    return await _asked(addresses[-1], admin)


async def _asked(address: str, admin: Identity) -> dict[str, Any]:
    async with SNClient(address, admin) as client:
        status = await client.training.GetStatus(pb.GetStatusRequest(contract=CONTRACT))
        nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
        organizations, missing = pb.ListOrganizationsReply(), ""
        try:
            organizations = await client.network.ListOrganizations(pb.ListOrganizationsRequest())
        except ChainError as error:
            missing = f"Open proposals are not known now. {error}"
    sns = [
        {"name": node.name, "address": f"{node.host}:{node.port}", "present": node.present}
        for node in nodes
        if node.role == "sn"
    ]
    ends = {node.name: node.certificate_ends for node in nodes if node.certificate_ends}
    proposals = [proposal_as_data(it, organizations.votes_needed) for it in organizations.proposals]
    return {
        "sns": sns,
        "certificates_end": ends,
        "proposals": proposals,
        "missing": missing,
        "training": as_data(status),
    }


def proposal_as_data(it: pb.Proposal, needed: int) -> dict[str, Any]:
    """An open proposal. ``at``: seconds since 1970, UTC."""
    return {
        "number": it.number,
        "change": it.change,
        "organization": it.organization,
        "role": it.role,
        "node": it.node,
        "proposer": it.proposer,
        "at": it.at,
        "votes": [vote.organization for vote in it.votes],
        "votes_needed": needed,
        "summary": f"{it.proposer} proposes to {change_in_words(it)}: {len(it.votes)} of {needed} votes, "
        f"since {moment_utc(it.at)}",
    }


def as_data(status: pb.TrainingStatus) -> dict[str, Any]:
    """A training as plain data; digests in hexadecimal."""
    result = status.last_result
    return {
        "contract": status.contract,
        "state": pb.RoundState.Name(status.state),
        "summary": headline(status),
        "round": status.round,
        "term": status.term,
        "leader": status.leader,
        "awaited": list(status.awaited),
        "last_result": {
            "round": result.round,
            "leader": result.leader,
            "digest": result.digest.hex(),
            "size": result.size,
            "merged": list(result.merged),
            "left_out": [{"name": entry.name, "reason": entry.reason} for entry in result.left_out],
            "summary": describe_result(result),
        }
        if result.round
        else None,
        "participants": [
            {
                "name": node.name,
                "active": node.active,
                "doing": doing,
                "round": node.report_round,
                "loss": measure_in_json(measure(node, "loss")),
                "metric": measure_in_json(measure(node, "metric")),
                "epochs_done": node.epochs_done,
                "epochs_total": node.epochs_total,
            }
            for node, (_, _, doing, *_) in zip(status.participants, rows(status), strict=True)
        ],
    }


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"Swarm in {found['dir']}: chain {found['chain'] or 'not up yet'}, SN {found['sn'] or 'not up yet'}", ""]
    for process in found["processes"]:
        state = f"runs, pid {process['pid']}" if process["alive"] else "has ended"
        port = f", port {process['port']}" if process["port"] else ""
        lines.append(f"  {process['name']:<10} {state}{port}{_license_in_words(process.get('license'))}")
    if len(found["sns"]) > 1:
        lines.append("")
        for sn in found["sns"]:
            lines.append(f"  {sn['name']:<10} {'present' if sn['present'] else 'lost'}, API at {sn['address']}")
    soon = [ends_soon(name, ends, time.time()) for name, ends in found["certificates_end"].items()]
    lines += ["", *warnings] if (warnings := [sentence for sentence in soon if sentence]) else []
    if found["proposals"]:
        lines += ["", *(f"Proposal {it['number']}: {it['summary']}" for it in found["proposals"])]
    if found["missing"]:
        lines += ["", found["missing"]]
    training = found["training"]
    if training is not None:
        lines += ["", f"Training {training['contract']}: {training['summary']}"]
        if training["last_result"]:
            lines.append(f"  {training['last_result']['summary']}")
        for node in training["participants"]:
            loss, metric = (shown(node[name], ".4f") for name in ("loss", "metric"))
            report = f"loss {loss}, metric {metric}" if node["round"] else "no report yet"
            lines.append(f"  {node['name']:<10} {node['doing']}, {report}")
    return "\n".join(lines)


def _license_in_words(note: dict[str, Any] | None) -> str:
    """Empty if the license is held."""
    if note is None or note["state"] == "held":
        return ""
    if note["state"] == "grace":
        return f", WITHOUT A LICENSE SERVER until {note.get('until')}"
    return ", license lost: ends when its round is over"
