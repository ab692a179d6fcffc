"""A client for an SWCI's ``POST /exec``: each method sends a command and returns the lines that a shell shows.

Needs only Python's standard library; ``plotTopology`` also needs matplotlib.
"""

import json
import logging
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from swarmlearning.swci.reasons import reason_of
from swarmlearning.swci.topology import drawn

DEFAULT_CONTRACT = "defaultbb.cqdb.sml.hpe"
DEFAULT_RUNNER = "defaulttaskbb.taskdb.sml.hpe"
DONE = frozenset({"COMPLETE", "ERROR", "IDLE"})
CONNECT_TIMEOUT_S = 30.0


class SwciError(Exception):
    """The SWCI cannot be reached, or its answer cannot be understood."""


class Swci:  # names and parameters are those that scripts use already
    """One session with an SWCI, with its own context and current directory.

    ``clientCert``, ``clientPKey``: PEM files with the role swci or admin. ``clientCABundle``: PEM file of the CAs, by
    default those of the system. The server's certificate is always verified. A command that fails returns an empty
    list, and ``getErrors()`` holds its message; SwciError is raised if there is no usable answer.
    """

    def __init__(  # noqa: PLR0917 - in the order that scripts use
        self,
        swciIp: str,
        port: int = 30306,
        clientCert: str | None = None,
        clientPKey: str | None = None,
        clientCABundle: str | None = None,
        logger: logging.Logger | None = None,
        logLv: int = logging.WARNING,
        enableCaching: bool = True,
    ) -> None:
        self._host, self._port = swciIp, port
        self._tls = ssl.create_default_context(cafile=clientCABundle)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        if clientCert is not None:
            self._tls.load_cert_chain(clientCert, clientPKey)
        self._log = logger or logging.getLogger("swci")
        self._log.setLevel(logLv)
        self._errors: list[str] = []
        self._cache: dict[str, list[str]] | None = {} if enableCaching else None
        self._session = uuid.uuid4().hex

    # --- files and the session ----------------------------------------------------------------------

    def ls(self, optStr: str = "") -> list[str]:
        return self.execute(f"ls {optStr}".strip())

    def pwd(self) -> list[str]:
        return self.execute("pwd")

    def cd(self, dirPath: str) -> list[str]:
        return self.execute(f"cd {dirPath}")

    def sleep(self, sleepTime: int) -> list[str]:
        """Seconds."""
        return self.execute(f"SLEEP {sleepTime}")

    def setLogLevel(self, logLv: int) -> None:
        self._log.setLevel(logLv)

    def getErrors(self) -> list[str]:
        """The errors of all commands so far, oldest first."""
        return list(self._errors)

    def clearCache(self) -> None:
        if self._cache is not None:
            self._cache.clear()

    # --- contexts -----------------------------------------------------------------------------------

    def createContext(
        self,
        ctxName: str,
        ip: str | None = None,
        port: int = 30304,
        service: str | None = None,
    ) -> list[str]:
        where = f"SERVICE {service}" if service else f"IP {ip} {port}"
        return self._changing(f"CREATE CONTEXT {ctxName} WITH {where}")

    def switchContext(self, ctxName: str) -> list[str]:
        return self._changing(f"SWITCH CONTEXT {ctxName}")

    def getContextInfo(self, ctxName: str) -> list[str]:
        return self._cached(f"GET CONTEXT INFO {ctxName}")

    def listContexts(self) -> list[str]:
        return self._cached("LIST CONTEXTS")

    # --- training contracts -------------------------------------------------------------------------

    def createTrainingContract(self, ctName: str) -> list[str]:
        return self._changing(f"CREATE CONTRACT {ctName}")

    def listTrainingContracts(self) -> list[str]:
        return self._cached("LIST CONTRACTS")

    def getTrainingContractInfo(self, ctName: str) -> list[str]:
        return self._cached(f"GET CONTRACT INFO {ctName}")

    def getTrainingContractStatus(self, ctName: str) -> list[str]:
        return self.execute(f"GET CONTRACT STATUS {ctName}")

    def getTrainingContractPerformanceData(self, ctName: str) -> list[str]:
        return self.execute(f"PERFDATA {ctName}")

    def resetTrainingContract(self, ctName: str = DEFAULT_CONTRACT) -> list[str]:
        return self._changing(f"RESET CONTRACT {ctName}")

    # --- tasks --------------------------------------------------------------------------------------

    def createTaskFrom(self, yamlFileName: str) -> list[str]:
        """Creates a task from a file in the session's current directory."""
        return self._changing(f"CREATE TASK FROM {yamlFileName}")

    def registerTask(self, yamlFileName: str, finalize: bool = True) -> list[str]:
        """CREATE TASK FROM, and FINALIZE TASK."""
        created = self.createTaskFrom(yamlFileName)
        names = [line.partition("Task Registered :")[2].strip() for line in created if "Task Registered :" in line]
        if not finalize or not names:
            return created
        finalized = self.finalizeTask(names[0])
        return created + finalized if finalized else []

    def finalizeTask(self, taskName: str) -> list[str]:
        return self._changing(f"FINALIZE TASK {taskName}")

    def deleteTask(self, taskName: str) -> list[str]:
        return self._changing(f"DELETE TASK {taskName}")

    def listTasks(self) -> list[str]:
        return self._cached("LIST TASKS")

    def getTaskInfo(self, taskName: str) -> list[str]:
        return self._cached(f"GET TASK INFO {taskName}")

    def getTaskBody(self, taskName: str) -> list[str]:
        return self._cached(f"GET TASK BODY {taskName}")

    def uploadTaskDefintion(self, taskFilePath: str) -> list[str]:
        """Uploads a local task file into the session's current directory, where it is checked."""
        path = Path(taskFilePath)
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        status, text = self._post(
            "/uploadTaskDef", body, f"multipart/form-data; boundary={boundary}", CONNECT_TIMEOUT_S
        )
        if status != 200:
            return self._failed(_sentence(text))
        return text.splitlines()

    # --- taskrunners --------------------------------------------------------------------------------

    def createTaskRunner(self, trName: str) -> list[str]:
        return self._changing(f"CREATE TASKRUNNER {trName}")

    def listTaskRunners(self) -> list[str]:
        return self._cached("LIST TASKRUNNERS")

    def listTaskRunnerPeers(self, trName: str = DEFAULT_RUNNER) -> list[str]:
        return self.execute(f"LIST TASKRUNNER PEERS {trName}")

    def getTaskRunnerInfo(self, trName: str) -> list[str]:
        return self._cached(f"GET TASKRUNNER INFO {trName}")

    def getTaskRunnerStatus(self, trName: str) -> list[str]:
        return self.execute(f"GET TASKRUNNER STATUS {trName}")

    def getTaskRunnerPeerStatus(self, trName: str, idx: int | str) -> list[str]:
        """``idx``: a number, or the UID of a peer."""
        return self.execute(f"GET TASKRUNNER PEER STATUS {trName} {idx}")

    def assignTask(
        self,
        taskName: str,
        trName: str = DEFAULT_RUNNER,
        peers: int | None = None,
        *,
        target: str | None = None,
    ) -> list[str]:
        """``peers``: how many, or None for all. ``target``: instead, the UID of one SWOP."""
        who = f"TARGET {target}" if target else "WITH ALL PEERS" if peers is None else f"WITH {peers} PEERS"
        return self._changing(f"ASSIGN TASK {taskName} TO {trName} {who}")

    def waitForTaskRunner(self, trName: str = DEFAULT_RUNNER) -> list[str]:
        """Returns as soon as the task ends; an empty list if it failed."""
        return self.execute(f"WAIT FOR TASKRUNNER {trName}")

    def executeTask(
        self,
        taskName: str,
        tr: str = DEFAULT_RUNNER,
        peers: int | None = 1,
        pollWaitInSec: float = 120,
        resetTROnSuccess: bool = True,
    ) -> bool:
        """Assigns a task and waits for its end; True if it completed. It does not poll; ``pollWaitInSec`` is unused."""
        if not self.assignTask(taskName, tr, peers):
            return False
        done = bool(self.waitForTaskRunner(tr))
        if done and resetTROnSuccess:
            self.resetTaskRunner(tr)
        return done

    def isTaskDone(self, trName: str = DEFAULT_RUNNER) -> bool:
        """Whether its state is COMPLETE, ERROR or IDLE."""
        lines = self.getTaskRunnerStatus(trName)
        return any(line.partition(":")[2].strip() in DONE for line in lines if line.strip().startswith("TASK STATE"))

    def resetTaskRunner(self, trName: str = DEFAULT_RUNNER) -> list[str]:
        return self._changing(f"RESET TASKRUNNER {trName}")

    # --- nodes --------------------------------------------------------------------------------------

    def listNodes(self) -> list[str]:
        return self.execute("LIST NODES")

    def plotTopology(
        self,
        SNColour: str = "#ADD8E6",
        SWOPColor: str = "#33FF33",
        SLColour: str = "#FFCCCB",
        attrs: Sequence[str] = (),
    ) -> Any:
        """A matplotlib figure: SNs, and below each the SWOPs and SLs that are registered with it; nodes that are away
        are gray. ``attrs``: columns of LIST NODES to write below each name.
        """
        colours = {"SENTINEL": SNColour, "SN": SNColour, "SWOP": SWOPColor, "SL": SLColour}
        return drawn(_table(self.listNodes()), colours, attrs)

    # --- how it is asked ----------------------------------------------------------------------------

    def execute(self, command: str, timeout: float | None = None) -> list[str]:
        """Runs any command; returns the lines that a shell would show, without indentation; empty if it failed.

        ``timeout``: seconds; None waits as long as the command takes.
        """
        started = time.monotonic()
        status, text = self._post(f"/exec?cmd={quote(command)}", b"", "application/json", timeout)
        self._log.info("%s took %.2f s", command, time.monotonic() - started)
        if status != 200:
            return self._failed(_sentence(text))
        try:
            lines = [str(line) for line in json.loads(text)["CONTENT"]]
        except (ValueError, KeyError, TypeError):
            raise SwciError(f"The SWCI at {self._host}:{self._port} answered with something else than lines.") from None
        failed = [line.strip() for line in lines if line.strip().startswith("ERROR ")]
        return self._failed("\n".join(failed)) if failed else [line.removeprefix("    ") for line in lines]

    def _changing(self, command: str) -> list[str]:
        self.clearCache()
        return self.execute(command)

    def _cached(self, command: str) -> list[str]:
        if self._cache is None:
            return self.execute(command)
        if command not in self._cache:
            lines = self.execute(command)
            if not lines:
                return lines
            self._cache[command] = lines
        return list(self._cache[command])

    def _failed(self, sentence: str) -> list[str]:
        self._errors.append(sentence)
        self._log.error(sentence)
        return []

    def _post(self, path: str, body: bytes, kind: str, timeout: float | None) -> tuple[int, str]:
        connection = HTTPSConnection(self._host, self._port, context=self._tls, timeout=CONNECT_TIMEOUT_S)
        try:
            connection.connect()
            connection.sock.settimeout(timeout)
            headers = {"Content-Type": kind, "Swci-Session": self._session}
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, HTTPException) as error:
            raise SwciError(f"The SWCI at {self._host}:{self._port} cannot be asked: {reason_of(error)}") from None
        finally:
            connection.close()


def _sentence(text: str) -> str:
    """The message of an error answer."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip() or "the SWCI gave no reason"


def _table(lines: Sequence[str]) -> list[Mapping[str, str]]:
    """The rows of LIST NODES by column."""
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if "," in line]
    return [dict(zip(rows[0], row, strict=False)) for row in rows[1:]]
