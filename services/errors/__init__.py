"""Every error that a user may see, with what to do about it. Imports only itself; one module per exit code.

SwarmError
├── SettingsError          a setting is missing, malformed or contradicts another
├── IdentityError          a certificate, key or CA is not usable, or a peer's is not acceptable
├── LicenseError           no lease, no seat, no license server
├── NetworkError           a node cannot be reached, or a port is in use
├── ChainError             geth, the embedded chain, or a transaction
├── TrainingError          what the training contract refuses
├── ModelError             parameters that are damaged, do not fit, or are not finite
├── MLChannelError         the pipes between ML and SL
├── StorageError           a directory or disk
├── LocalError             `swarm up` and its children
├── ExecutorError          Docker, Podman or the local processes of a SWOP
├── CommandError           a command of SWCI, what it names, or its outcome
├── AuditError             the record of a training, or a model file that does not match it
├── AdminError             what the administration of a license server refuses
└── TaskError              tasks and taskrunners

An instance takes the facts of its message as keywords: ``BelowMinPeers(have=2, need=3)``.
``str()`` says what is wrong, where, and what to do.
"""

# All modules are imported together, so that `by_code` finds the class of any error that another node sends.
from services.errors.admin import *
from services.errors.audit import *
from services.errors.base import *
from services.errors.chain import *
from services.errors.channel import *
from services.errors.command import *
from services.errors.executor import *
from services.errors.identity import *
from services.errors.license import *
from services.errors.local import *
from services.errors.model import *
from services.errors.network import *
from services.errors.settings import *
from services.errors.storage import *
from services.errors.task import *
from services.errors.taskrunner import *
from services.errors.training import *
