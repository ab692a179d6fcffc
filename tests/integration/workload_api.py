"""A SPIFFE Workload API for tests: the public protocol on a socket, with SVIDs from the test."""

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from spiffe._proto import workload_pb2, workload_pb2_grpc

from services.identity.certificates import read_chain, spiffe_uris

WITHIN_S = 30.0


class WorkloadApi(workload_pb2_grpc.SpiffeWorkloadAPIServicer):  # type: ignore[misc]  # the package has no types for it
    """The API for one workload. It has no entry until ``give``; listeners get each ``give``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._response: Any = None
        self._number = 0
        self._closed = False
        self._changed = threading.Condition()

    def give(self, files: Any, *, bundle: Path | None = None, more: Any = ()) -> None:
        """Sets the SVIDs: first that of ``files``, then ``more``. ``bundle``: CAs of its trust domain,
        empty for none.
        """
        svids = [self._svid(one, one.cacert if bundle is None else bundle) for one in (files, *more)]
        with self._changed:
            self._response = workload_pb2.X509SVIDResponse(svids=svids)
            self._number += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def FetchX509SVID(self, _request: Any, context: Any) -> Iterator[Any]:
        if dict(context.invocation_metadata()).get("workload.spiffe.io") != "true":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        if self._response is None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        context.add_callback(self._wake)
        sent = 0
        while context.is_active() and not self._closed:
            with self._changed:
                while self._number == sent and context.is_active() and not self._closed:
                    self._changed.wait()
                sent, response = self._number, self._response
            if context.is_active() and not self._closed:
                yield response

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _svid(self, files: Any, bundle: Path) -> Any:
        chain = read_chain(files.cert)
        key = load_pem_private_key(files.key.read_bytes(), None)
        return workload_pb2.X509SVID(
            spiffe_id=spiffe_uris(chain[0])[0],
            x509_svid=b"".join(one.public_bytes(Encoding.DER) for one in chain),
            x509_svid_key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            bundle=b"".join(one.public_bytes(Encoding.DER) for one in read_chain(bundle)),
        )


@contextlib.contextmanager
def workload_apis(*names: str) -> Iterator[Mapping[str, WorkloadApi]]:
    """One API per workload, each on its own socket. Not in the tests' directories, whose paths are too long for
    sockets.
    """
    with tempfile.TemporaryDirectory(prefix="spiffe-") as directory, contextlib.ExitStack() as stack:
        found = {}
        for name in names:
            api = found[name] = WorkloadApi(Path(directory) / f"{name}.sock")
            pool = stack.enter_context(ThreadPoolExecutor(8))
            server = grpc.server(pool)
            workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(api, server)
            server.add_insecure_port(f"unix:{api.path}")
            server.start()
            stack.callback(lambda server=server: server.stop(0).wait(WITHIN_S))
            stack.callback(api.close)
        yield found
