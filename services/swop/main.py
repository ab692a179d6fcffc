"""Starts a SWOP, step by step, and follows its taskrunner until it is stopped."""

import asyncio
import sys
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path

from services.errors import SettingsError
from services.identity.certificates import authority_of, read_chain
from services.identity.expiry import watched_expiry
from services.identity.source import own_identity
from services.licensing.lease import Lease
from services.runtime import logs, traces
from services.runtime.addresses import HTTPS_PORT, join_address, split_address
from services.runtime.metrics import Meter
from services.runtime.ready import ReadySocket
from services.runtime.stopping import until
from services.runtime.trust_directory import reason_not_to_mount
from services.swop.approvals import Approvals
from services.swop.decisions import AgentState
from services.swop.executors.base import Executor
from services.swop.executors.environments import LocalEnvironment
from services.swop.executors.process import ProcessExecutor
from services.swop.executors.spec import Owner
from services.swop.link import SwopLink
from services.swop.operator import Operator
from services.swop.pairs import CAS_ALONE, PairPlacement, own_trust
from services.swop.policy_file import policy_path, read_policy
from services.swop.preparing import Workshop
from services.swop.profile import Profile, read_profile
from services.swop.settings import SwopSettings
from services.swop.work import Cleaning

ROLE = "swop"
FEATURE = "SWOP"
APPROVALS = "approvals"
LICENSE_PORT = 5814
RUNTIME_SOCKETS = (Path("/var/run/docker.sock"), Path("/run/podman/podman.sock"))
SN_PORT = 30304
_SECRET_KINDS = ("KEY", "KEYPASSPHRASE", "SPIFFE_SOCKETPATH")

_log = logs.get(ROLE)


async def main(settings: SwopSettings, stop: asyncio.Event, ready: ReadySocket) -> None:
    """Runs until ``stop``. Programs started for a task go on, and the next SWOP process adopts them."""
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(own_identity(settings, ROLE))
        logs.configure(settings.log_format, identity.name, settings.log_level)
        await stack.enter_async_context(watched_expiry(identity, Meter(on=False)))
        traces.configure("swarm-swop", identity.name)
        _log.info("identity", name=identity.name, role=identity.role, fingerprint=identity.fingerprint[:16])
        profile = read_profile(settings.usr_dir / settings.profile_file_name)
        _check_trust(settings, profile)
        policy = read_policy(profile.policy, settings.usr_dir).allowing(*_usr_dirs(settings))
        approvals = Approvals(settings.data_dir / APPROVALS)
        approvals.open()
        _log.info("Profile validated", group=profile.group, runner=profile.runner, pairs=len(profile.nodes))
        executor = await stack.enter_async_context(open_executor(settings, profile))
        runtime = await executor.describe()
        protected = _protected(settings, profile)
        protected += tuple([await executor.host_path(path) for path in protected])  # a policy may allow either path
        _log.info("executor", kind=runtime.kind, version=runtime.version, address=runtime.address)
        for note in runtime.notes:
            _log.warning(note)
        # Before the rest: a second process of this name would take the first one's seat and its tasks.
        link = await stack.enter_async_context(SwopLink(identity, _sn(settings, profile), lambda s: pause(stop, s)))
        lease = await stack.enter_async_context(
            await Lease.acquire(_license_servers(settings, profile), identity, FEATURE, data_dir=settings.data_dir)
        )
        await link.register()
        authority = authority_of(read_chain(identity.credentials.cert)[0])
        place = PairPlacement(
            identity.name, profile.runner, 0, Owner(settings.uid, settings.gid), settings.sl_image,
            sn=_sn(settings, profile), license=_license_servers(settings, profile)[0],
            host_network=executor.shares_host_network, authority=authority,
            trust=str(settings.trust.absolute()) if settings.trust else "",
        )  # fmt: skip
        operator = Operator(
            AgentState(identity.name, profile.group, len(profile.nodes)),
            profile.runner,
            link,
            workshop=Workshop(link, executor, profile, policy, place, tuple(dict.fromkeys(protected))),
            cleaning=Cleaning(
                executor, identity.name, profile.runner, settings.finish_grace_s, settings.keep_containers, authority
            ),
            approvals=approvals,
            on_attending=lambda: ready.report(executor=executor.kind),
        )
        await until(stop, operator.run(), lease.raise_when_lost(_at_once), link.name.lost())
    _log.info("stopped")


def open_executor(settings: SwopSettings, profile: Profile) -> Executor:
    """The executor that the profile names; only its library is loaded."""
    manager = profile.resource_manager
    if manager.kind == "PROCESS":
        images = {image.image: LocalEnvironment(Path(image.python)) for image in profile.images or ()}
        images[settings.sl_image] = LocalEnvironment(Path(sys.executable), (sys.executable, "-m", "services.cli", "sl"))
        return ProcessExecutor(settings.data_dir / "processes", images, secrets=_secrets(settings, profile))
    module = import_module(f"services.swop.executors.{manager.kind.lower()}")
    address = f"unix://{manager.access.socket}" if manager.access.socket else None
    executor: Executor = getattr(module, f"{manager.kind.capitalize()}Executor")(address)
    return executor


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Waits, but at most until ``stop``."""
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting}, timeout=seconds)
    waiting.cancel()


def _check_trust(settings: SwopSettings, profile: Profile) -> None:
    """Checks that no SL trusts by less than the SWOP's own trust file, and that its directory may be mounted."""
    if settings.trust is None:
        return
    for node in profile.definitions:
        if (found := own_trust(node, profile)) in CAS_ALONE:
            problem = (
                f"{found} of the pair {node.index} lets its SL trust CAs alone, and this SWOP goes by a trust file"
            )
            raise SettingsError(
                name=settings.profile_file_name, problem=f"{problem}, which it hands on: leave it out", command=ROLE
            )
    if reason := reason_not_to_mount(settings.trust.parent):
        raise SettingsError(name="trust", problem=reason, command=ROLE)


def _usr_dirs(settings: SwopSettings) -> list[Path]:
    """The directory as configured and with links followed: tasks may name either."""
    return list(dict.fromkeys([settings.usr_dir.absolute(), settings.usr_dir.resolve()]))


def _protected(settings: SwopSettings, profile: Profile) -> tuple[str, ...]:
    """What no task may mount: with these, a task could give itself rights that the owner of the host does not give."""
    paths = [settings.usr_dir / settings.profile_file_name, settings.data_dir, *RUNTIME_SOCKETS]
    identity = (
        settings.cert,
        settings.key,
        settings.key_passphrase_file,
        settings.cacert,
        settings.capath,
        settings.trust,
        settings.socket_path,
    )
    paths += [path for path in identity if path is not None]
    if profile.policy:
        paths.append(policy_path(profile.policy, settings.usr_dir))
    if profile.resource_manager.access.socket:
        paths.append(Path(profile.resource_manager.access.socket))
    for node in profile.definitions:
        paths += [Path(f.attribute.source) for f in node.identity if f.attribute.mount == "BIND"]
    return tuple(dict.fromkeys(str(known) for path in paths for known in (path.absolute(), path.resolve())))


def _secrets(settings: SwopSettings, profile: Profile) -> list[Path]:
    """What no program on this host may read: above all keys, also a trial CA's key beside the certificate."""
    paths = [settings.data_dir, settings.usr_dir / settings.profile_file_name]
    own = (settings.key, settings.key_passphrase_file, settings.cert)
    paths += [found for path in own if path is not None for found in (path.parent, path)]
    paths += [path.parent for path in (settings.cacert, settings.trust) if path is not None]
    if settings.socket_path is not None:  # it hands out keys
        paths.append(settings.socket_path)
    if profile.policy:
        paths.append(policy_path(profile.policy, settings.usr_dir))
    for node in profile.definitions:
        for entry in node.identity:
            if entry.attribute.mount == "BIND" and entry.attribute.kind in _SECRET_KINDS:
                paths.append(Path(entry.attribute.source))
    return paths


def _sn(settings: SwopSettings, profile: Profile) -> str:
    locator = profile.api_server.locator
    if locator.service:
        return join_address(*split_address(locator.service, HTTPS_PORT))
    if locator.host:
        return join_address(locator.host, locator.port or SN_PORT)
    return settings.sn_address


def _license_servers(settings: SwopSettings, profile: Profile) -> list[str]:
    locator = profile.license.locator
    return list(
        dict.fromkeys([join_address(locator.host, locator.port or LICENSE_PORT), *settings.license_servers[1:]])
    )


async def _at_once() -> None:
    """A SWOP that loses its license may end at once: its pairs go on without it."""
