"""What identities go through while they are in use: new certificates, new keys, revocation lists, an expulsion."""

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.serialization import Encoding

from services.identity.authority import IssuedFiles
from services.identity.certificates import key_fingerprint, read_chain
from services.identity.files import CERT_MODE, write_whole
from services.identity.rotation import rotate
from tests.chaos.ground import Fault, Ground, Inject
from tests.chaos.processes import Process

TAKEN = "loaded new certificate files"
LIST_TAKEN = "loaded a new revocation list"
REVOKED = "it is revoked"

Change = Callable[[Ground, IssuedFiles], None]


def key(ground: Ground, files: IssuedFiles) -> None:
    """A new one, which the old one hands over to."""
    before = key_fingerprint(read_chain(files.cert)[0])
    after = key_fingerprint(rotate(files.cert, files.key, ground.world.authority))
    keys = ground.traffic.history.first_keys
    keys[after] = keys.get(before, before)


def certificate(ground: Ground, files: IssuedFiles) -> None:
    """A new one for the same key."""
    renewed = ground.world.authority.renew(files.cert)
    write_whole(files.cert, renewed.public_bytes(Encoding.PEM), CERT_MODE, force=True)


def of_one(change: Change) -> Inject:
    """Of a node that trains; it may be started again with it."""

    async def inject(ground: Ground) -> None:
        pair = ground.somebody()
        await _changed(ground, change, {pair.sl: ground.world.files("sl", pair.name)})
        await ground.traffic.contributes(pair.name)
        if ground.dice.random() < 0.5:
            await ground.kill(pair)
            ground.went.hit += ", which is killed"
            await ground.come_back(pair)

    return inject


def of_all(change: Change) -> Inject:
    """Of every SL, every SN and the license server, at once. All take part in each round."""

    async def inject(ground: Ground) -> None:
        world = ground.world
        files = {pair.sl: world.files("sl", pair.name) for pair in ground.traffic.well}
        files |= {world.nodes[sn].process: world.files("sn", sn) for sn in world.sns}
        files[world.nodes["license"].process] = world.files("license", "license")
        await _changed(ground, change, files)
        await ground.traffic.rounds(2)

    return inject


async def _changed(ground: Ground, change: Change, files: Mapping[Process, IssuedFiles]) -> None:
    """Returns when all these have taken what has changed."""
    since = {process: process.written for process in files}
    for one in files.values():
        change(ground, one)
    ground.hits(f"of {', '.join(process.name for process in files)}")
    await ground.traffic.said(TAKEN, since)


async def expelled(ground: Ground) -> None:
    """Its certificate is revoked: it ends, and the others go on without it."""
    pair = ground.somebody()
    pair.expected_exit = True
    ground.world.revoke(read_chain(ground.world.files("sl", pair.name).cert)[0])
    ground.hits(pair.name)
    await ground.ends_badly(pair, REVOKED)
    await ground.traffic.rounds(1)


async def list_exchanged(ground: Ground) -> None:
    """A newer list names nobody more who is here: nothing happens."""
    world = ground.world
    stranger = world.authority.issue("sl", "stranger", ["localhost"], world.directory / "stranger", force=True)
    processes = [pair.sl for pair in ground.traffic.well] + [node.process for node in world.nodes.values()]
    since = {process: process.written for process in processes}
    world.revoke()
    world.revoke(read_chain(stranger.cert)[0])
    ground.hits("the same again, then with a stranger")
    await ground.traffic.said(LIST_TAKEN, since)
    await ground.traffic.rounds(1)


ALL = {"nodes": 3, "min_peers": 3}  # a round that misses one cannot be closed
QUIET = {"may_depose": False, "may_leave_out": False}

FAULTS_OF_KEYS = (
    Fault("certificate renewed", of_one(certificate)),
    Fault("key replaced", of_one(key)),
    Fault("every certificate renewed", of_all(certificate), shape=ALL, alone=True, **QUIET),
    Fault("every key replaced", of_all(key), shape=ALL, sns=3, alone=True, **QUIET),
    Fault("node expelled", expelled, alone=True),
    Fault("revocation list exchanged", list_exchanged, **QUIET),
)
