// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {SwarmNetwork} from "./SwarmNetwork.sol";

/// @title One taskrunner: a group of SWOPs (agents) that carry out one task at a time.
/// @notice IDLE -> ASSIGNED (waits for peers) -> RUNNING -> COMPLETE or ERROR. A reset leads from any state to IDLE.
///         Agents name the assignment that they write to. Except for a release, it must be the current one.
///         Times (at) are milliseconds since 1970-01-01 UTC, by the SN's clock: block timestamps are not exact.
///         A peer is an SL/ML pair if the task runs a swarm, otherwise the agent itself.
contract TaskRunner {
    error NotARegisteredSN(address account);
    error RunnerBusy(string task);
    error RunnerIdle();
    error StaleAssignment(uint64 given, uint64 current);
    error NotEnoughPeers(uint32 need, uint32 have);
    error UnknownAgent(string name);
    error AgentNotAdmitted(string name);
    error AlreadyEnrolled(string name);
    error AgentNotEnrolled(string name);
    error EnoughEnrolled();
    error PeerHasEnded(string name, uint32 index);
    error TooLong(string field, uint256 size, uint256 limit);
    error Malformed(string field);

    event AgentAttended(string name, string group, uint32 peers, bytes32 fingerprint);
    event AgentQuit(string name, string reason);
    event TaskAssigned(uint64 assignment, Assigned assigned, uint64 at);
    event TargetAdded(uint64 assignment, string target, uint32 needed, string by);
    event AgentEnrolled(uint64 assignment, string name, uint32 peers);
    event RunnerStarted(uint64 assignment, uint64 at);
    event PeerReported(uint64 assignment, Report report, uint64 at);
    event RunnerEnded(uint64 assignment, RunnerState state, uint64 at);
    event RunnerReset(uint64 assignment, string by);
    event AgentReleased(uint64 assignment, string name);

    enum RunnerState { IDLE, ASSIGNED, RUNNING, COMPLETE, ERROR }
    enum PeerState { NONE, ENROLLED, RUNNING, COMPLETE, ERROR }

    uint256 public constant FIELD_LIMIT = 1024; // bytes
    uint256 public constant DESCRIPTION_LIMIT = 8192; // bytes
    uint32 public constant PEERS_LIMIT = 1000; // per agent

    /// @param runsPairs Whether its peers are SL/ML pairs; otherwise each agent is a peer.
    /// @param needed    How many peers must complete it; with a target, as many as that agent brings.
    /// @param target    The only agent that may take part; empty: any.
    /// @param by        Role and name of who assigned it.
    struct Assigned {
        string task;
        string taskType;
        bool runsPairs;
        bytes32 contentHash;
        uint32 needed;
        string target;
        string by;
    }

    /// @param agent The agent that brought the peer with this index.
    /// @param peer  Name of the peer, such as that of its SL; may be empty.
    struct Report {
        string agent;
        uint32 index;
        PeerState state;
        string peer;
        string description;
    }

    /// @param peers      SL/ML pairs in its profile.
    /// @param enrolledIn The last assignment that it enrolled in, with ``brought`` peers.
    /// @param admittedTo The last assignment that has it as a target.
    /// @param released   The last assignment for which it has removed everything.
    struct Agent {
        string group;
        bytes32 fingerprint;
        uint32 peers;
        bool attends;
        uint64 enrolledIn;
        uint32 brought;
        uint64 admittedTo;
        uint64 released;
    }

    /// @param needed   How many peers must complete.
    /// @param open     How many more peers could enrol: those of attending agents that are admitted but not enrolled.
    /// @param enrolled How many peers have enrolled, including those ``completed`` and ``failed``.
    struct Status {
        RunnerState state;
        uint64 assignment;
        bool runsPairs;
        bool targeted;
        uint32 needed;
        uint32 open;
        uint32 enrolled;
        uint32 completed;
        uint32 failed;
        string task;
        bytes32 contentHash;
    }

    SwarmNetwork public immutable network;
    Status private _now;
    mapping(bytes32 key => Agent) private _agents;
    mapping(bytes32 key => PeerState) private _peers;
    uint32 public attendingAgents;
    uint32 public attendingPeers;

    modifier onlySN() {
        if (!network.isSN(msg.sender)) revert NotARegisteredSN(msg.sender);
        _;
    }

    constructor(SwarmNetwork network_) {
        network = network_;
    }

    // --- agents come and go ---------------------------------------------------------------------------

    /// @notice An agent attends, possibly again with another number of pairs.
    function attend(string calldata name, string calldata group, uint32 peers, bytes32 fingerprint) external onlySN {
        if (bytes(name).length == 0) revert Malformed("name");
        if (peers == 0 || peers > PEERS_LIMIT) revert Malformed("peers");
        _limit("name", bytes(name).length, FIELD_LIMIT);
        _limit("group", bytes(group).length, FIELD_LIMIT);
        Agent storage agent = _agents[_key(name)];
        if (agent.attends) _goes(agent);
        agent.group = group;
        agent.fingerprint = fingerprint;
        agent.peers = peers;
        agent.attends = true;
        attendingAgents += 1;
        attendingPeers += peers;
        if (_mayStillEnrol(agent)) _now.open += _brings(agent);
        emit AgentAttended(name, group, peers, fingerprint);
    }

    /// @notice An agent stops attending or was lost. It stays enrolled in its assignment and may come back.
    function quit(string calldata name, string calldata reason, uint64 at) external onlySN {
        Agent storage agent = _known(name);
        _limit("reason", bytes(reason).length, FIELD_LIMIT);
        if (!agent.attends) return;
        _goes(agent);
        emit AgentQuit(name, reason);
        _decide(at);
    }

    // --- a task is assigned, carried out, and over ----------------------------------------------------

    /// @notice Assigns a task to an idle runner.
    function assign(Assigned memory assigned, uint64 at) external onlySN {
        if (_now.state != RunnerState.IDLE) revert RunnerBusy(_now.task);
        if (bytes(assigned.task).length == 0) revert Malformed("task");
        uint64 assignment = _now.assignment + 1;
        _now = Status({
            state: RunnerState.ASSIGNED,
            assignment: assignment,
            runsPairs: assigned.runsPairs,
            targeted: bytes(assigned.target).length != 0,
            needed: assigned.needed,
            open: assigned.runsPairs ? attendingPeers : attendingAgents,
            enrolled: 0,
            completed: 0,
            failed: 0,
            task: assigned.task,
            contentHash: assigned.contentHash
        });
        if (_now.targeted) {
            Agent storage agent = _attending(assigned.target);
            agent.admittedTo = assignment;
            _now.open = _brings(agent);
            _now.needed = _now.open;
            assigned.needed = _now.open;
        }
        if (_now.needed == 0) revert Malformed("peers");
        if (_now.needed > _now.open) revert NotEnoughPeers(_now.needed, _now.open);
        emit TaskAssigned(assignment, assigned, at);
    }

    /// @notice Adds an agent to the current assignment, which then needs its peers too.
    function addTarget(uint64 assignment, string calldata target, string calldata by) external onlySN {
        _running(assignment);
        Agent storage agent = _attending(target);
        if (agent.enrolledIn == assignment) revert AlreadyEnrolled(target);
        if (_now.targeted) {
            if (agent.admittedTo == assignment) revert AlreadyEnrolled(target);
            agent.admittedTo = assignment;
            _now.open += _brings(agent);
        }
        _now.needed += _brings(agent);
        emit TargetAdded(assignment, target, _now.needed, by);
    }

    /// @notice An agent takes part, with this number of peers.
    function enrol(uint64 assignment, string calldata name, uint32 peers, uint64 at) external onlySN {
        _running(assignment);
        Agent storage agent = _attending(name);
        if (agent.enrolledIn == assignment) revert AlreadyEnrolled(name);
        if (_now.targeted && agent.admittedTo != assignment) revert AgentNotAdmitted(name);
        if (_now.enrolled - _now.failed >= _now.needed) revert EnoughEnrolled();
        if (peers != _brings(agent)) revert Malformed("peers");
        _now.open -= peers;
        _now.enrolled += peers;
        agent.enrolledIn = assignment;
        agent.brought = peers;
        emit AgentEnrolled(assignment, name, peers);
        if (_now.state == RunnerState.ASSIGNED && _now.enrolled - _now.failed >= _now.needed) {
            _now.state = RunnerState.RUNNING;
            emit RunnerStarted(assignment, at);
        }
    }

    /// @notice Records the state of a peer. COMPLETE and ERROR are final. Peers that have not ended may still report
    ///         after the runner has ended.
    function report(uint64 assignment, Report calldata said, uint64 at) external onlySN {
        _current(assignment);
        Agent storage agent = _known(said.agent);
        if (agent.enrolledIn != assignment) revert AgentNotEnrolled(said.agent);
        if (said.index >= agent.brought) revert Malformed("index");
        if (said.state == PeerState.NONE) revert Malformed("state");
        _limit("peer", bytes(said.peer).length, FIELD_LIMIT);
        _limit("description", bytes(said.description).length, DESCRIPTION_LIMIT);
        bytes32 key = keccak256(abi.encode(assignment, said.agent, said.index));
        if (_peers[key] >= PeerState.COMPLETE) revert PeerHasEnded(said.agent, said.index);
        _peers[key] = said.state;
        emit PeerReported(assignment, said, at);
        if (said.state == PeerState.COMPLETE) _now.completed += 1;
        if (said.state == PeerState.ERROR) _now.failed += 1;
        _decide(at);
    }

    /// @notice Ends the assignment in any state. Agents then remove what they started and release it.
    function reset(uint64 assignment, string calldata by) external onlySN {
        _current(assignment);
        _now.state = RunnerState.IDLE;
        delete _now.task;
        emit RunnerReset(assignment, by);
    }

    /// @notice An agent has removed everything that it started for this assignment and earlier ones.
    function release(uint64 assignment, string calldata name) external onlySN {
        Agent storage agent = _known(name);
        if (assignment > _now.assignment) revert StaleAssignment(assignment, _now.assignment);
        if (assignment <= agent.released) return;
        agent.released = assignment;
        emit AgentReleased(assignment, name);
    }

    // --- reading --------------------------------------------------------------------------------------

    function status() external view returns (Status memory) {
        return _now;
    }

    function agentNamed(string calldata name) external view returns (Agent memory) {
        return _known(name);
    }

    function peerState(uint64 assignment, string calldata name, uint32 index) external view returns (PeerState) {
        return _peers[keccak256(abi.encode(assignment, name, index))];
    }

    // --- helpers --------------------------------------------------------------------------------------

    /// @dev Ends the assignment once enough peers have completed, or too few are left to do so.
    function _decide(uint64 at) private {
        if (_now.state != RunnerState.ASSIGNED && _now.state != RunnerState.RUNNING) return;
        if (_now.completed >= _now.needed) {
            _now.state = RunnerState.COMPLETE;
        } else if (_now.enrolled - _now.failed + _now.open < _now.needed) {
            _now.state = RunnerState.ERROR;
        } else {
            return;
        }
        emit RunnerEnded(_now.assignment, _now.state, at);
    }

    function _goes(Agent storage agent) private {
        if (_mayStillEnrol(agent)) _now.open -= _brings(agent);
        agent.attends = false;
        attendingAgents -= 1;
        attendingPeers -= agent.peers;
    }

    /// @dev Whether its peers are counted as open.
    function _mayStillEnrol(Agent storage agent) private view returns (bool) {
        if (_now.state == RunnerState.IDLE || agent.enrolledIn == _now.assignment) return false;
        return !_now.targeted || agent.admittedTo == _now.assignment;
    }

    function _brings(Agent storage agent) private view returns (uint32) {
        return _now.runsPairs ? agent.peers : 1;
    }

    /// @dev Reverts unless this is the current assignment and it has not ended.
    function _running(uint64 assignment) private view {
        _current(assignment);
        if (_now.state != RunnerState.ASSIGNED && _now.state != RunnerState.RUNNING) revert RunnerBusy(_now.task);
    }

    function _current(uint64 assignment) private view {
        if (assignment != _now.assignment) revert StaleAssignment(assignment, _now.assignment);
        if (_now.state == RunnerState.IDLE) revert RunnerIdle();
    }

    function _attending(string memory name) private view returns (Agent storage agent) {
        agent = _known(name);
        if (!agent.attends) revert UnknownAgent(name);
    }

    function _known(string memory name) private view returns (Agent storage agent) {
        agent = _agents[_key(name)];
        if (agent.peers == 0) revert UnknownAgent(name);
    }

    function _limit(string memory field, uint256 size, uint256 limit) private pure {
        if (size > limit) revert TooLong(field, size, limit);
    }

    function _key(string memory name) private pure returns (bytes32) {
        return keccak256(bytes(name));
    }
}
