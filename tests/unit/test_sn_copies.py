"""When an SN takes a result: another one than its leader has signed, with the key it is known by, that it holds it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from test_sn_training import CONFIG, Told

from services.chain.events import Configured, Left
from services.errors import NoSecondCopy
from services.identity.expulsions import Expulsions
from services.identity.identity import Identity, identity_of_certificate
from services.identity.organizations import Organization, Organizations
from services.identity.signing import Signer
from services.rpc import swarm_pb2 as pb
from services.rpc.result_copy import COPY_BYTES, CopyClaim
from services.sn.copies import require_copy
from services.sn.membership import DirectoryMember, Membership

LEADER, HOLDER, OTHER, LATE = "sl-1", "sl-2", "sl-3", "sl-4"
DIGEST = b"\xab" * 32


class Publishing:
    """sl-1 to sl-3 are merged by sl-1; sl-4 has not checked in."""

    def __init__(self, pki: Any) -> None:
        self.told = Told()
        self.told.tell(Configured(self.told.at(), CONFIG, LEADER))
        self.told.enrol(LEADER, HOLDER, OTHER, LATE)
        self.told.check_in(LEADER, HOLDER, OTHER)
        self.told.merge(LEADER)
        self.pki = pki
        self.membership = Membership()
        self.trust = replace(pki.identity("sn", "sn-1").trust, expulsions=Expulsions())
        for name in (LEADER, HOLDER, OTHER, LATE):
            self.known_by(name, pki.identity("sl", name).fingerprint)

    def known_by(self, name: str, key: str, previous: str = "", until: float = 0.0) -> None:
        keys = {"previous": bytes.fromhex(previous), "previous_until": until}
        self.membership.put(DirectoryMember("sl", name, "host", 1, bytes.fromhex(key), "sn-1", **keys))

    def leaves(self, name: str) -> None:
        self.told.tell(Left(self.told.at(), name, "done", 1))

    def copy(self, name: str = HOLDER, by: Identity | None = None, **claimed: Any) -> pb.ResultCopy:
        view = self.told.view
        claim = CopyClaim(view.location, view.round, view.term, DIGEST.hex(), name)
        return replace(claim, **claimed).signed(Signer(by or self.pki.identity("sl", name)))

    def publish(self, copy: pb.ResultCopy | None, *left_out: str, digest: bytes = DIGEST) -> None:
        out = [pb.LeftOut(name=name) for name in left_out]
        request = pb.PublishRequest(contract="t", round=1, term=1, digest=digest, left_out=out, copy=copy)
        require_copy(request, self.told.view, self.membership, self.trust)


@pytest.fixture
def publishing(pki: Any) -> Publishing:
    return Publishing(pki)


def test_what_another_participant_holds_is_taken(publishing: Publishing) -> None:
    publishing.publish(publishing.copy())
    publishing.publish(publishing.copy(OTHER), OTHER)  # who is left out may hold it, where nobody else is there


@dataclass(frozen=True)
class Lie:
    tell: Callable[[Publishing], pb.ResultCopy | None]
    words: str


def renamed(copy: pb.ResultCopy, name: str) -> pb.ResultCopy:
    return pb.ResultCopy(holder=name, certificates=copy.certificates, signature=copy.signature)


LIES = {
    "nothing": Lie(lambda _: None, "nobody has signed for it"),
    "empty": Lie(lambda _: pb.ResultCopy(holder=HOLDER), "certificate"),
    "by the leader itself": Lie(lambda it: it.copy(LEADER), "sl-1 is none of those who could"),
    "by who takes no part in the round": Lie(lambda it: it.copy(LATE), "sl-4 is none of those who could"),
    "by the leader in another's name": Lie(
        lambda it: it.copy(by=it.pki.identity("sl", LEADER)), "not by the key of sl-2"
    ),
    "by another one in its name": Lie(lambda it: renamed(it.copy(OTHER), HOLDER), "not by the key of sl-2"),
    "of an SN with its name": Lie(lambda it: it.copy(by=it.pki.identity("sn", HOLDER)), "not by the key of sl-2"),
    "of another result": Lie(lambda it: it.copy(digest="cd" * 32), "sl-2 has not signed this"),
    "of another round": Lie(lambda it: it.copy(round=2), "sl-2 has not signed this"),
    "of another term": Lie(lambda it: it.copy(term=2), "sl-2 has not signed this"),
    "of another training": Lie(lambda it: it.copy(location="0x2"), "sl-2 has not signed this"),
    "no signature": Lie(
        lambda it: pb.ResultCopy(holder=HOLDER, certificates=it.copy().certificates), "sl-2 has not signed this"
    ),
    "no certificate": Lie(
        lambda it: pb.ResultCopy(holder=HOLDER, certificates=[b"none"], signature=it.copy().signature), "certificate"
    ),
    "too much": Lie(lambda it: pb.ResultCopy(holder=HOLDER, signature=bytes(COPY_BYTES)), "bytes"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_what_is_not_signed_by_another_participant_is_refused(publishing: Publishing, lie: Lie) -> None:
    with pytest.raises(NoSecondCopy, match=lie.words):
        publishing.publish(lie.tell(publishing))


def test_who_has_left_holds_nothing_any_more(publishing: Publishing) -> None:
    copy = publishing.copy()
    publishing.leaves(HOLDER)
    with pytest.raises(NoSecondCopy):
        publishing.publish(copy)
    publishing.publish(publishing.copy(OTHER))


def test_nobody_has_to_hold_what_nobody_else_could(publishing: Publishing) -> None:
    publishing.leaves(HOLDER)
    with pytest.raises(NoSecondCopy):  # it could be at the one that is left out
        publishing.publish(None, OTHER)
    publishing.leaves(OTHER)
    publishing.publish(None)


def test_who_goes_on_alone_needs_nobody(publishing: Publishing) -> None:
    publishing.publish(None, HOLDER, OTHER)  # the contract takes that with minPeers 1 only


def test_the_last_result_once_more_is_held_already(publishing: Publishing) -> None:
    told = publishing.told
    told.accept()
    told.check_in(LEADER, HOLDER, OTHER)
    told.merge(LEADER)
    publishing.publish(None, digest=b"r" * 32)
    with pytest.raises(NoSecondCopy):
        publishing.publish(None)


def test_an_old_key_signs_as_long_as_it_is_good(publishing: Publishing) -> None:
    old, new = (publishing.pki.identity("sl", name) for name in (HOLDER, OTHER))
    by_old, by_new = publishing.copy(by=old), publishing.copy(by=new)
    new_files = publishing.pki.issue("sl", HOLDER)
    newest = Identity.load(cert=new_files.cert, key=new_files.key, cacert=new_files.cacert)
    publishing.known_by(HOLDER, newest.fingerprint, old.fingerprint, time.time() + 600)
    publishing.publish(by_old)
    publishing.publish(publishing.copy(by=newest))
    publishing.known_by(HOLDER, newest.fingerprint, old.fingerprint, time.time() - 1)
    publishing.publish(publishing.copy(by=newest))
    for copy in (by_old, by_new):
        with pytest.raises(NoSecondCopy, match="not by the key of sl-2"):
            publishing.publish(copy)


def test_a_node_that_is_known_by_its_spiffe_id_signs_with_whatever_key(
    publishing: Publishing, foreign_pki: Any
) -> None:
    files = publishing.pki.issue("sl", HOLDER)
    newest = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
    (certificate, *_) = Signer(newest).sign(b"").certificates
    by_id = identity_of_certificate(certificate).id_fingerprint
    publishing.known_by(HOLDER, by_id)
    publishing.publish(publishing.copy(by=newest))
    with pytest.raises(NoSecondCopy, match="no CA that is trusted"):  # the same ID, by whoever has a CA
        publishing.publish(publishing.copy(by=foreign_pki.identity("sl", HOLDER)))


def test_with_a_trust_file_its_organization_must_have_issued_its_certificate(
    publishing: Publishing, foreign_pki: Any
) -> None:
    own, foreign = publishing.pki.identity("sl", HOLDER), foreign_pki.identity("sl", HOLDER)
    (certificate, *_) = Signer(own).sign(b"").certificates
    domain = identity_of_certificate(certificate).trust_domain
    hospital = Organization("hospital", domain, own.trust.certificates, {"sl": ("*",)})
    publishing.trust = replace(publishing.trust, organizations=Organizations([hospital]))
    publishing.publish(publishing.copy())
    publishing.known_by(HOLDER, foreign.fingerprint)
    with pytest.raises(NoSecondCopy, match="none of its own CAs has issued it"):
        publishing.publish(publishing.copy(by=foreign))


def test_an_expelled_node_vouches_for_nothing(publishing: Publishing) -> None:
    publishing.trust.expulsions.put(("sl", HOLDER))
    with pytest.raises(NoSecondCopy, match="expelled"):
        publishing.publish(publishing.copy())
