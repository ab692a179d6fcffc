"""Where a node's own identity comes from: certificate files, or a SPIFFE Workload API."""

import contextlib
from collections.abc import AsyncIterator

from services.identity.identity import Identity
from services.identity.renewed_files import IdentityFiles, renewed_files
from services.runtime.settings import LicensedSettings


@contextlib.asynccontextmanager
async def own_identity(settings: LicensedSettings, role: str, slot: str = "") -> AsyncIterator[Identity]:
    """Inside this context, the identity is kept current. Raises what Identity.load raises, WorkloadApiFailed."""
    if settings.socket_path is None:
        files = IdentityFiles.of(settings)
        async with renewed_files(lambda: files, role, slot, known_by_id=settings.renewed_files) as identity:
            yield identity
        return
    from services.identity.workload import workload_identity  # noqa: PLC0415  # gRPC, for those who use it

    async with workload_identity(
        settings.socket_path, cacert=settings.cacert, capath=settings.capath, expected_role=role, slot=slot
    ) as identity:
        yield identity
