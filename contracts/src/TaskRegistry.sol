// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {SwarmNetwork} from "./SwarmNetwork.sol";

/// @title The tasks of one swarm.
/// @notice A task has a header and a body. The body may be changed until the task is finalized; after that, the task
///         may be assigned. The body is stored only in events; the contract computes and stores its hash.
contract TaskRegistry {
    error NotARegisteredSN(address account);
    error TaskNameTaken(string name);
    error UnknownTask(string name);
    error TaskIsFinalized(string name);
    error TaskHasNoBody(string name);
    error TaskChanged(string name, bytes32 current);
    error TooLong(string field, uint256 size, uint256 limit);
    error Malformed(string field);

    event TaskCreated(Header header, string registrant, bytes32 fingerprint, uint64 at);
    event TaskBodySet(string name, bytes32 bodyHash, bytes body);
    event TaskFinalized(string name, bytes32 contentHash);
    event TaskRemoved(string name);

    uint256 public constant FIELD_LIMIT = 1024; // bytes
    uint256 public constant BODY_LIMIT = 64 * 1024; // bytes

    /// @param author As the task itself says; who registered it is in ``Task``.
    /// @param prereq Name of another task, or ROOTTASK.
    struct Header {
        string name;
        string taskType;
        string author;
        string prereq;
        string outcome;
    }

    /// @param registrant  Role and name of the certificate under which the task was created.
    /// @param fingerprint SHA-256 of its public key.
    /// @param bodyHash    SHA-256 of the body; of the empty string until a body is set.
    struct Task {
        Header header;
        string registrant;
        bytes32 fingerprint;
        bytes32 bodyHash;
        bool finalized;
        bool exists;
    }

    SwarmNetwork public immutable network;
    mapping(bytes32 key => Task) private _tasks;
    uint256 public taskCount;

    modifier onlySN() {
        if (!network.isSN(msg.sender)) revert NotARegisteredSN(msg.sender);
        _;
    }

    constructor(SwarmNetwork network_) {
        network = network_;
    }

    /// @notice Creates a task with its body, which may be empty, and finalizes it at once if ``finalized`` is set.
    /// @param at Milliseconds since 1970-01-01 UTC, by the SN's clock: block timestamps are not exact.
    function createTask(
        Header calldata header,
        string calldata registrant,
        bytes32 fingerprint,
        bytes calldata body,
        bool finalized,
        uint64 at
    ) external onlySN {
        _check(header);
        _limit("registrant", bytes(registrant).length, FIELD_LIMIT);
        Task storage task = _tasks[_key(header.name)];
        if (task.exists) revert TaskNameTaken(header.name);
        task.header = header;
        task.registrant = registrant;
        task.fingerprint = fingerprint;
        task.exists = true;
        task.finalized = false;
        taskCount += 1;
        emit TaskCreated(header, registrant, fingerprint, at);
        _setBody(task, body);
        if (finalized) _finalize(task);
    }

    /// @notice Replaces the body of a task that is not finalized. Reverts if the body has changed meanwhile.
    /// @param expected SHA-256 of the body to replace.
    function setBody(string calldata name, bytes32 expected, bytes calldata body) external onlySN {
        Task storage task = _open(name);
        if (task.bodyHash != expected) revert TaskChanged(name, task.bodyHash);
        _setBody(task, body);
    }

    /// @notice Makes the task immutable and assignable.
    /// @param expected SHA-256 of its body; zero accepts any body.
    function finalizeTask(string calldata name, bytes32 expected) external onlySN {
        Task storage task = _open(name);
        if (expected != 0 && task.bodyHash != expected) revert TaskChanged(name, task.bodyHash);
        _finalize(task);
    }

    /// @notice Deletes a task that is not finalized; its name is free again.
    function removeTask(string calldata name) external onlySN {
        _open(name);
        delete _tasks[_key(name)];
        taskCount -= 1;
        emit TaskRemoved(name);
    }

    function taskNamed(string calldata name) external view returns (Task memory) {
        return _known(name);
    }

    /// @notice What an assignment records of a task: SHA-256 over its header and body hash.
    function contentHash(string calldata name) external view returns (bytes32) {
        return _contentHash(_known(name));
    }

    // --- helpers --------------------------------------------------------------------------------------

    function _setBody(Task storage task, bytes calldata body) private {
        _limit("body", body.length, BODY_LIMIT);
        task.bodyHash = sha256(body);
        emit TaskBodySet(task.header.name, task.bodyHash, body);
    }

    function _finalize(Task storage task) private {
        if (task.bodyHash == sha256("")) revert TaskHasNoBody(task.header.name);
        task.finalized = true;
        emit TaskFinalized(task.header.name, _contentHash(task));
    }

    function _contentHash(Task storage task) private view returns (bytes32) {
        Header storage header = task.header;
        return sha256(
            abi.encode(
                header.name, header.taskType, header.author, header.prereq, header.outcome, task.bodyHash
            )
        );
    }

    function _open(string calldata name) private view returns (Task storage task) {
        task = _known(name);
        if (task.finalized) revert TaskIsFinalized(name);
    }

    function _known(string calldata name) private view returns (Task storage task) {
        task = _tasks[_key(name)];
        if (!task.exists) revert UnknownTask(name);
    }

    function _check(Header calldata header) private pure {
        if (bytes(header.name).length == 0) revert Malformed("name");
        if (bytes(header.taskType).length == 0) revert Malformed("taskType");
        _limit("name", bytes(header.name).length, FIELD_LIMIT);
        _limit("taskType", bytes(header.taskType).length, FIELD_LIMIT);
        _limit("author", bytes(header.author).length, FIELD_LIMIT);
        _limit("prereq", bytes(header.prereq).length, FIELD_LIMIT);
        _limit("outcome", bytes(header.outcome).length, FIELD_LIMIT);
    }

    function _limit(string memory field, uint256 size, uint256 limit) private pure {
        if (size > limit) revert TooLong(field, size, limit);
    }

    function _key(string memory name) private pure returns (bytes32) {
        return keccak256(bytes(name));
    }
}
