// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

interface ISwarmNetwork {
    function isSN(address account) external view returns (bool);
    function keyOfSL(string calldata name) external view returns (bytes32);
}

/// @title One training: its participants, current round and leader, and the result of each round.
/// @notice States of a round: CHECKIN -> MERGE(term) -> CHECKIN of the next round, or COMPLETE.
///         Writes to a round name the round that they are meant for and, while merging, the term. A write meant for
///         another one reverts with an error that names both. Every change emits an event.
contract TrainingContract {
    error NotARegisteredSN(address account);
    error Malformed(string field);
    error ConfigurationDiffers(string field, string given, string agreed);
    error NameTaken(string name, bytes32 enrolledFingerprint);
    error NotEnrolled(string name);
    error NotConfigured();
    error TrainingComplete(uint64 round);
    error TrainingNotComplete();
    error StaleRound(uint64 given, uint64 current);
    error StaleTerm(uint64 round, uint32 given, uint32 current);
    error RoundClosed(uint64 round);
    error RoundNotClosed(uint64 round);
    error Behind(uint64 base, uint64 lastAccepted);
    error AlreadyCheckedIn(string name, uint64 round, bytes32 digest);
    error NotAParticipant(string name, uint64 round);
    error ModelDiffers(bytes32 given, bytes32 agreed, string agreedBy);
    error SizeDiffers(uint64 given, uint64 agreed);
    error BelowMinPeers(uint32 have, uint32 need);
    error EnoughPeers(uint32 have, uint32 need);
    error NobodyMayLead(uint64 round);
    error NotTheLeader(string name, string leader, uint64 round, uint32 term);
    error LeaderMayNotVote(string name);

    event Configured(Config config, string by);
    event Enrolled(string name, bytes32 fingerprint, bool mayLead, uint64 round);
    event LayoutAgreed(bytes32 layout, string by);
    event CheckedIn(
        uint64 indexed round,
        string name,
        bytes32 digest,
        uint64 size,
        uint32 weight,
        bool finished,
        string host,
        uint16 port,
        uint32 staleness
    );
    event MergeStarted(uint64 indexed round, uint32 term, string leader, uint32 participants);
    event LeaderVotedOut(uint64 indexed round, uint32 term, string voter, uint32 votes, uint32 followers);
    event LeaderDeposed(uint64 indexed round, uint32 term, string leader);
    event LeftOut(uint64 indexed round, uint32 term, string name, string reason);
    event RoundReopened(uint64 indexed round, uint32 term, uint32 have, uint32 need);
    event RoundAccepted(
        uint64 indexed round, uint32 term, string leader, bytes32 digest, uint64 size, uint32 participants
    );
    event Completed(uint64 indexed round, bytes32 digest);
    event Reported(
        uint64 indexed round, string name, uint64 lossBits, uint64 metricBits, uint32 epochsDone, uint32 epochsTotal
    );
    event IntervalChosen(uint64 indexed round, uint32 interval, uint8 reason, int256 meanLoss, int256 earlierLoss);
    event BestMerged(uint64 indexed round, int256 meanMetric);
    event StoppedEarly(uint64 indexed round, uint64 bestRound, uint32 patience);
    event Left(string name, string reason, uint64 round);
    event Reset(uint64 nextRound);

    enum State { UNCONFIGURED, CHECKIN, MERGE, COMPLETE }

    /// @param quorumWaitMs How long a round waits for the others once minPeers have checked in. The first enroller
    ///                     sets it; later ones may ask for another value, which is ignored.
    /// @param firstMerge   What the first result is: the parameters of one participant, or the merge of all.
    /// @param modelVersion Free text that must be the same for all; may be empty.
    /// @param weighting    What a weight is: "fixed" (up to MAX_WEIGHT) or "samples" (up to MAX_SAMPLES).
    /// @param patience     The training ends after so many rounds in a row without a better mean metric; 0: never.
    /// @param metricDown   Whether a smaller metric is better.
    struct Config {
        uint32 minPeers;
        uint32 syncFrequency;
        string mergeMethod;
        bool adaptiveSync;
        uint32 quorumWaitMs;
        string transferCompression;
        string firstMerge;
        string modelVersion;
        string weighting;
        uint32 patience;
        bool metricDown;
    }

    struct Participant {
        string name;
        bytes32 fingerprint;
        string host;
        uint16 port;
        bool mayLead;
        bool active;
        uint32 epochsDone;
        uint32 epochsTotal;
        uint64 reportRound;
        uint64 lossBits;
        uint64 metricBits;
    }

    struct CheckIn {
        uint32 participant;
        uint64 size;
        uint32 weight;
        bool finished;
        uint32 staleness;
        bytes32 digest;
    }

    /// @dev Valid only in the round that it names.
    struct Position {
        uint64 round;
        uint32 plusOne;
    }

    /// @dev The check-ins of one round. Entries after the first `count` are of earlier rounds and will be overwritten.
    struct CheckIns {
        uint64 round;
        uint32 count;
        CheckIn[] entries;
        mapping(uint32 participant => Position) positions;
    }

    /// @dev A participant's latest vote.
    struct Vote {
        uint64 round;
        uint32 term;
    }

    /// @dev Sums over the participants that have reported on the newest accepted round, in units of 2^-64. Values that
    ///      are not finite, or beyond 2^148, are not counted.
    struct Reports {
        int256 lossSum;
        int256 metricSum;
        uint32 losses;
        uint32 metrics;
    }

    struct Result {
        bytes32 digest;
        uint64 size;
        uint32 term;
        uint32 leader;
        uint32 participants;
    }

    /// @notice A check-in. base is the round whose result the node's parameters were trained from. If it is older than
    ///         the last result, the check-in is stale by that many rounds, and mergers agree to reduce its weight.
    struct CheckInCall {
        uint64 round;
        uint64 base;
        string name;
        bytes32 digest;
        uint64 size;
        bytes32 layout;
        uint32 weight;
        bool finished;
        string host;
        uint16 port;
    }

    struct Status {
        State state;
        uint64 round;
        uint32 term;
        uint32 leader;
        uint64 lastAccepted;
        uint64 firstRound;
        Config config;
        bytes32 layout;
        string layoutBy;
        uint32 activeCount;
    }

    // Variables are private to save getters: a contract has room for 24 KiB. `status` returns what others need.
    uint32 private constant MAX_WEIGHT = 100;
    /// @notice Low enough that a merge can add up the weights of a thousand participants exactly.
    uint32 private constant MAX_SAMPLES = 1_000_000;
    /// @notice How many earlier mean losses the newest one is compared with.
    uint32 private constant WINDOW = 4;
    /// @notice An improvement by more than a hundredth lengthens the interval.
    int256 private constant THRESHOLD_PARTS = 100;
    uint8 private constant NO_LOSS = 0;
    uint8 private constant FIRST_LOSS = 1;
    uint8 private constant IMPROVED = 2;
    uint8 private constant IMPROVED_LITTLE = 3;
    uint8 private constant NOT_IMPROVED = 4;
    /// @notice 1 TiB: bounds the space that any announced size can make a node reserve.
    uint64 private constant MAX_SIZE = 2 ** 40;
    /// @notice After this many rounds in a row in which all merged participants had finished, the training ends even
    ///         if active ones are still missing.
    uint32 private constant LAST_ROUNDS = 3;

    ISwarmNetwork public immutable network;

    State private state;
    uint64 private round;
    uint32 private term;
    /// @notice Index of the leader among the participants; valid only in MERGE.
    uint32 private leader;
    /// @notice The newest accepted round of this training; 0 before the first.
    uint64 private lastAccepted;
    /// @notice The first round of this training: 1, or the one after the last round before a reset.
    uint64 private firstRound;

    Config private _config;
    bytes32 private _layout;
    string private _layoutBy;
    /// @dev Size of every stream with this layout, since the header determines it; 0 before the first result. The
    ///      contract has only hashes and cannot check a size. So the participants of the first result, at least
    ///      minPeers of them, must have announced the same size.
    uint64 private _size;
    /// @dev How many rounds in a row all merged participants had finished; see LAST_ROUNDS.
    uint32 private _lastRounds;
    /// @dev Batches between two merges; used only if the interval is adaptive.
    uint32 private _interval;
    uint32 private _maxWeight;
    Reports private _reports;
    int256[WINDOW] private _losses;
    uint32 private _lossesSeen;
    uint64 private _bestRound;
    uint32 private _withoutBetter;
    int256 private _bestMetric;

    Participant[] private _participants;
    mapping(bytes32 nameHash => uint256 indexPlusOne) private _indexOf;
    uint32[] private _active;
    mapping(uint32 participant => uint256 positionPlusOne) private _activePosition;

    /// @dev Of the current round and the one before. The contract stores only what its rules need, and overwrites it;
    ///      events are the record. So the state that every SN keeps does not grow with the number of rounds.
    CheckIns[2] private _checkIns;
    Result private _result;
    mapping(uint32 voter => Vote) private _votes;

    modifier onlySN() {
        if (!network.isSN(msg.sender)) revert NotARegisteredSN(msg.sender);
        _;
    }

    /// @dev Requires the state `expected`, this round and, while merging, this term.
    modifier fenced(State expected, uint64 givenRound, uint32 givenTerm) {
        _fence(expected, givenRound, givenTerm);
        _;
    }

    constructor(ISwarmNetwork network_) {
        network = network_;
        _openRound(1);
        firstRound = 1;
    }

    // --- joining --------------------------------------------------------------------------------------

    /// @notice Enrols a participant. The first one sets the configuration, and later ones must bring the same.
    ///         A participant that returns under the same key, or the one in the directory, becomes active again.
    ///         If everyone left before anything was merged, the next to enrol sets the configuration again, so a
    ///         mistake in it can be corrected.
    function enrol(string calldata name, bytes32 fingerprint, bool mayLead, Config calldata config_)
        external
        onlySN
    {
        if (state == State.COMPLETE) revert TrainingComplete(lastAccepted);
        if (bytes(name).length == 0) revert Malformed("name");
        if (fingerprint == 0) revert Malformed("fingerprint");
        if (state == State.UNCONFIGURED || (_active.length == 0 && lastAccepted == 0)) {
            if (config_.minPeers == 0) revert Malformed("minPeers");
            if (config_.syncFrequency == 0) revert Malformed("syncFrequency");
            if (bytes(config_.mergeMethod).length == 0) revert Malformed("mergeMethod");
            if (bytes(config_.transferCompression).length == 0) revert Malformed("transferCompression");
            if (bytes(config_.firstMerge).length == 0) revert Malformed("firstMerge");
            bool samples = keccak256(bytes(config_.weighting)) == keccak256("samples");
            if (!samples && keccak256(bytes(config_.weighting)) != keccak256("fixed")) revert Malformed("weighting");
            _config = config_;
            _layout = 0;
            _layoutBy = "";
            _maxWeight = samples ? MAX_SAMPLES : MAX_WEIGHT;
            _interval = config_.syncFrequency;
            state = State.CHECKIN;
            emit Configured(config_, name);
        } else {
            _compare(config_);
        }

        bytes32 key = keccak256(bytes(name));
        uint256 slot = _indexOf[key];
        uint32 index;
        if (slot == 0) {
            index = uint32(_participants.length);
            _participants.push();
            _indexOf[key] = index + 1;
            _participants[index].name = name;
            _participants[index].fingerprint = fingerprint;
        } else {
            index = uint32(slot - 1);
            bytes32 enrolled = _participants[index].fingerprint;
            if (enrolled != fingerprint) {
                if (network.keyOfSL(name) != fingerprint) revert NameTaken(name, enrolled);
                _participants[index].fingerprint = fingerprint;
            }
        }
        _participants[index].mayLead = mayLead;
        if (!_participants[index].active) {
            _participants[index].active = true;
            _active.push(index);
            _activePosition[index] = _active.length;
        }
        emit Enrolled(name, fingerprint, mayLead, round);
        if (state == State.CHECKIN) _closeIfAllIn();
    }

    // --- checking in ------------------------------------------------------------------------------------

    /// @notice Announces a node's parameters for the current round. The last awaited check-in closes the round.
    ///         Repeating a check-in changes nothing; one with another digest reverts.
    function checkIn(CheckInCall calldata call_) external onlySN {
        if (state == State.COMPLETE) revert TrainingComplete(lastAccepted);
        if (state == State.UNCONFIGURED) revert NotConfigured();
        if (call_.round != round) revert StaleRound(call_.round, round);
        uint32 index = _activeIndex(call_.name);
        CheckIns storage running = _running();
        uint256 position = _positionOf(index);
        if (position != 0) {
            bytes32 known = running.entries[position - 1].digest;
            if (known != call_.digest) revert AlreadyCheckedIn(call_.name, round, known);
            return;
        }
        if (state != State.CHECKIN) revert RoundClosed(round);
        if (call_.base > lastAccepted || (call_.base < firstRound && lastAccepted != 0)) {
            revert Behind(call_.base, lastAccepted);
        }
        uint32 staleness = uint32(lastAccepted - call_.base);
        if (call_.digest == 0) revert Malformed("digest");
        if (call_.size == 0 || call_.size > MAX_SIZE) revert Malformed("size");
        if (call_.layout == 0) revert Malformed("layout");
        if (call_.weight > _maxWeight) revert Malformed("weight");
        if (_layout == 0) {
            _layout = call_.layout;
            _layoutBy = call_.name;
            emit LayoutAgreed(call_.layout, call_.name);
        } else if (_layout != call_.layout) {
            revert ModelDiffers(call_.layout, _layout, _layoutBy);
        }
        if (_size != 0 && _size != call_.size) revert SizeDiffers(call_.size, _size);

        Participant storage participant = _participants[index];
        participant.host = call_.host;
        participant.port = call_.port;
        uint32 have = running.count;
        if (have == running.entries.length) running.entries.push();
        running.entries[have] = CheckIn(index, call_.size, call_.weight, call_.finished, staleness, call_.digest);
        running.count = have + 1;
        running.positions[index] = Position(round, have + 1);
        emit CheckedIn(
            round, call_.name, call_.digest, call_.size, call_.weight, call_.finished, call_.host, call_.port, staleness
        );
        _closeIfAllIn();
    }

    /// @notice Closes a round whose quorum clock ran out: minPeers have checked in, and the others are no longer
    ///         awaited. The term tells whether the round was reopened meanwhile, which restarts the clock.
    function closeRound(uint64 givenRound, uint32 givenTerm) external onlySN fenced(State.CHECKIN, givenRound, 0) {
        if (givenTerm != term) revert StaleTerm(round, givenTerm, term);
        uint32 have = _running().count;
        if (have < _config.minPeers) revert BelowMinPeers(have, _config.minPeers);
        if (_eligibleCount() == 0) revert NobodyMayLead(round);
        _startMerge();
    }

    // --- merging ----------------------------------------------------------------------------------------

    /// @notice The leader's result, with the participants that it had to leave out, and why. Accepted at most once per
    ///         round, and only with the size that all merged participants announced. The training is complete
    ///         once every active participant has finished. One that stays away while all others have finished
    ///         is awaited for LAST_ROUNDS rounds.
    function publish(
        uint64 givenRound,
        uint32 givenTerm,
        string calldata leaderName,
        bytes32 digest,
        uint64 size,
        string[] calldata leftOut,
        string[] calldata reasons
    ) external onlySN fenced(State.MERGE, givenRound, givenTerm) {
        _onlyLeader(leaderName);
        if (digest == 0) revert Malformed("digest");
        bool unfinished = _leaveOut(leftOut, reasons);
        uint32 have = _running().count;
        if (have < _config.minPeers) revert BelowMinPeers(have, _config.minPeers);
        _agreeOnSize(size);

        if (_config.adaptiveSync) _chooseInterval();
        bool stops = _stopsEarly();
        delete _reports;
        _result = Result(digest, size, term, leader, have);
        lastAccepted = round;
        emit RoundAccepted(round, term, leaderName, digest, size, have);
        if (stops) emit StoppedEarly(round, _bestRound, _config.patience);
        if (_ends(unfinished) || stops) {
            state = State.COMPLETE;
            emit Completed(round, digest);
        } else {
            state = State.CHECKIN;
            _openRound(round + 1);
        }
        term = 0;
    }

    /// @notice Reopens the round if fewer than minPeers remain after leaving some out. Other check-ins stay valid.
    function reopen(
        uint64 givenRound,
        uint32 givenTerm,
        string calldata leaderName,
        string[] calldata leftOut,
        string[] calldata reasons
    ) external onlySN fenced(State.MERGE, givenRound, givenTerm) {
        _onlyLeader(leaderName);
        _leaveOut(leftOut, reasons);
        uint32 have = _running().count;
        if (have >= _config.minPeers) revert EnoughPeers(have, _config.minPeers);
        _reopen();
    }

    /// @notice A follower's vote that the leader has failed. If more than half of the active followers vote, the term
    ///         grows by one and the next participant that may lead takes over.
    function voteOut(uint64 givenRound, uint32 givenTerm, string calldata voter)
        external
        onlySN
        fenced(State.MERGE, givenRound, givenTerm)
    {
        uint32 index = _activeIndex(voter);
        if (_positionOf(index) == 0) revert NotAParticipant(voter, round);
        if (index == leader) revert LeaderMayNotVote(voter);
        if (_hasVoted(index)) return;
        _votes[index] = Vote(round, term);
        (uint32 votes, uint32 followers) = _countVotes();
        emit LeaderVotedOut(round, term, voter, votes, followers);
        if (votes * 2 > followers) _depose();
    }

    // --- reporting and leaving --------------------------------------------------------------------------

    /// @notice Loss and metric of an accepted round's model on a node's own validation data, as the bits of IEEE 754
    ///         doubles (all ones: no value), and the node's progress.
    function report(
        uint64 givenRound,
        string calldata name,
        uint64 lossBits,
        uint64 metricBits,
        uint32 epochsDone,
        uint32 epochsTotal
    ) external onlySN {
        Participant storage participant = _participants[_indexNamed(name)];
        if (givenRound < firstRound || givenRound > lastAccepted || givenRound < participant.reportRound) {
            revert StaleRound(givenRound, lastAccepted);
        }
        if (givenRound == lastAccepted) {
            if (participant.reportRound == givenRound) _count(participant.lossBits, participant.metricBits, -1);
            _count(lossBits, metricBits, 1);
        }
        participant.reportRound = givenRound;
        participant.lossBits = lossBits;
        participant.metricBits = metricBits;
        participant.epochsDone = epochsDone;
        participant.epochsTotal = epochsTotal;
        emit Reported(givenRound, name, lossBits, metricBits, epochsDone, epochsTotal);
    }

    /// @notice A participant leaves or is found dead. An open round drops its check-in and no longer awaits it. A merge
    ///         that it led goes to the next participant that may lead. If it was a follower, the votes already cast
    ///         may now be more than half and depose the leader.
    function leave(string calldata name, string calldata reason) external onlySN {
        uint32 index = _indexNamed(name);
        if (!_participants[index].active) return;
        _participants[index].active = false;
        _deactivate(index);
        emit Left(name, reason, round);
        if (state == State.CHECKIN) {
            if (_positionOf(index) != 0) _dropCheckIn(index);
            _closeIfAllIn();
        } else if (state == State.MERGE) {
            (uint32 votes, uint32 followers) = _countVotes();
            if (index == leader || votes * 2 > followers) _depose();
        }
    }

    /// @notice Prepares a training that is complete, or that everyone has left, for a new one. Round numbers continue,
    ///         and the record stays.
    function reset() external onlySN {
        if (state != State.COMPLETE && (state == State.UNCONFIGURED || _active.length > 0)) {
            revert TrainingNotComplete();
        }
        while (_active.length > 0) {
            uint32 index = _active[_active.length - 1];
            _participants[index].active = false;
            _deactivate(index);
        }
        state = State.UNCONFIGURED;
        _openRound(round + 1);
        term = 0;
        firstRound = round;
        lastAccepted = 0;
        _layout = 0;
        _layoutBy = "";
        _size = 0;
        _lastRounds = 0;
        delete _reports;
        _lossesSeen = 0;
        _bestRound = 0;
        _withoutBetter = 0;
        emit Reset(round);
    }

    // --- reading ----------------------------------------------------------------------------------------

    function status() external view returns (Status memory) {
        return Status(
            state, round, term, leader, lastAccepted, firstRound, _config, _layout, _layoutBy, uint32(_active.length)
        );
    }

    /// @notice A page of participants in order of first enrolment; the last page may be shorter than ``limit``.
    function participants(uint256 offset, uint256 limit) external view returns (Participant[] memory page) {
        uint256 length = _participants.length;
        uint256 size = offset >= length ? 0 : (length - offset < limit ? length - offset : limit);
        page = new Participant[](size);
        for (uint256 i = 0; i < size; i++) page[i] = _participants[offset + i];
    }

    /// @notice Who checked in to a round; for an accepted round, who was merged. Only for the current round and the one
    ///         before; earlier ones are in the events.
    function checkIns(uint64 givenRound) external view returns (CheckIn[] memory found) {
        CheckIns storage known = _checkIns[givenRound % 2];
        found = new CheckIn[](known.round == givenRound ? known.count : 0);
        for (uint256 i = 0; i < found.length; i++) found[i] = known.entries[i];
    }

    /// @notice The result of the newest accepted round; earlier ones are in the events.
    function result(uint64 givenRound) external view returns (Result memory found) {
        if (givenRound != 0 && givenRound == lastAccepted) found = _result;
    }

    // --- helpers ----------------------------------------------------------------------------------------

    /// @dev Round numbers are consecutive, so this overwrites the check-ins of the round before the last.
    function _openRound(uint64 number) private {
        round = number;
        CheckIns storage opened = _checkIns[number % 2];
        opened.round = number;
        opened.count = 0;
    }

    function _running() private view returns (CheckIns storage) {
        return _checkIns[round % 2];
    }

    /// @return The index of its check-in to the current round, plus one; 0 if there is none.
    function _positionOf(uint32 index) private view returns (uint256) {
        Position storage position = _running().positions[index];
        return position.round == round ? position.plusOne : 0;
    }

    function _hasVoted(uint32 index) private view returns (bool) {
        Vote storage vote = _votes[index];
        return vote.round == round && vote.term == term;
    }

    function _fence(State expected, uint64 givenRound, uint32 givenTerm) private view {
        if (state == State.COMPLETE) revert TrainingComplete(lastAccepted);
        if (state == State.UNCONFIGURED) revert NotConfigured();
        if (givenRound != round) revert StaleRound(givenRound, round);
        if (state != expected) {
            if (expected == State.CHECKIN) revert RoundClosed(round);
            revert RoundNotClosed(round);
        }
        if (expected == State.MERGE && givenTerm != term) revert StaleTerm(round, givenTerm, term);
    }

    function _compare(Config calldata given) private view {
        if (given.minPeers != _config.minPeers) {
            revert ConfigurationDiffers("minPeers", _decimal(given.minPeers), _decimal(_config.minPeers));
        }
        if (given.syncFrequency != _config.syncFrequency) {
            revert ConfigurationDiffers(
                "syncFrequency", _decimal(given.syncFrequency), _decimal(_config.syncFrequency)
            );
        }
        _compareText("mergeMethod", given.mergeMethod, _config.mergeMethod);
        _compareText("transferCompression", given.transferCompression, _config.transferCompression);
        _compareText("firstMerge", given.firstMerge, _config.firstMerge);
        _compareText("modelVersion", given.modelVersion, _config.modelVersion);
        _compareText("nodeWeightage", given.weighting, _config.weighting);
        if (given.patience != _config.patience) {
            revert ConfigurationDiffers(
                "earlyStopping patience", _decimal(given.patience), _decimal(_config.patience)
            );
        }
        if (given.metricDown != _config.metricDown) {
            revert ConfigurationDiffers(
                "earlyStopping mode", given.metricDown ? "min" : "max", _config.metricDown ? "min" : "max"
            );
        }
        if (given.adaptiveSync != _config.adaptiveSync) {
            revert ConfigurationDiffers(
                "useAdaptiveSync", given.adaptiveSync ? "true" : "false", _config.adaptiveSync ? "true" : "false"
            );
        }
    }

    function _compareText(string memory field, string calldata given, string storage agreed) private pure {
        if (keccak256(bytes(given)) != keccak256(bytes(agreed))) revert ConfigurationDiffers(field, given, agreed);
    }

    function _indexNamed(string calldata name) private view returns (uint32) {
        uint256 slot = _indexOf[keccak256(bytes(name))];
        if (slot == 0) revert NotEnrolled(name);
        return uint32(slot - 1);
    }

    function _activeIndex(string calldata name) private view returns (uint32 index) {
        index = _indexNamed(name);
        if (!_participants[index].active) revert NotEnrolled(name);
    }

    function _onlyLeader(string calldata name) private view {
        uint32 index = _indexNamed(name);
        if (index != leader) revert NotTheLeader(name, _participants[leader].name, round, term);
    }

    /// @dev Closes the round if all active participants, at least minPeers, have checked in and one of them may lead.
    function _closeIfAllIn() private {
        uint256 have = _running().count;
        if (have == 0 || have < _config.minPeers || have < _active.length) return;
        if (_eligibleCount() == 0) return;
        _startMerge();
    }

    /// @dev Leadership rotates with round and term among the participants of the round that may lead, in order of
    ///      enrolment, regardless of the order of check-ins.
    function _startMerge() private {
        uint32 eligible = _eligibleCount();
        term += 1;
        uint256 turn = (uint256(round) + term) % eligible;
        leader = _eligibleAt(turn);
        state = State.MERGE;
        emit MergeStarted(round, term, _participants[leader].name, _running().count);
    }

    /// @dev Hands the merge to the next participant that may lead; if there is none, reopens the round.
    function _depose() private {
        emit LeaderDeposed(round, term, _participants[leader].name);
        if (_eligibleCount() > 0) _startMerge();
        else _reopen();
    }

    function _eligibleCount() private view returns (uint32 count) {
        CheckIns storage running = _running();
        uint256 have = running.count;
        for (uint256 i = 0; i < have; i++) {
            if (_mayLeadNow(running.entries[i].participant)) count += 1;
        }
    }

    /// @dev The turn-th smallest index among the eligible, regardless of the order of check-ins. Uses a bitmap of all
    ///      participants; linear in their number and that of check-ins.
    function _eligibleAt(uint256 turn) private view returns (uint32) {
        CheckIns storage running = _running();
        uint256 have = running.count;
        uint256[] memory marks = new uint256[]((_participants.length + 255) / 256);
        for (uint256 i = 0; i < have; i++) {
            uint32 index = running.entries[i].participant;
            if (_mayLeadNow(index)) marks[index / 256] |= 1 << (index % 256);
        }
        uint256 before = 0;
        for (uint256 i = 0; i < marks.length; i++) {
            uint256 rest = marks[i];
            for (uint32 bit = 0; rest != 0; bit++) {
                if (rest & 1 == 1 && before++ == turn) return uint32(i * 256) + bit;
                rest >>= 1;
            }
        }
        revert NobodyMayLead(round);
    }

    function _mayLeadNow(uint32 index) private view returns (bool) {
        return _participants[index].mayLead && _participants[index].active;
    }

    /// @dev Back to CHECKIN in the same round; check-ins of active participants stay valid.
    function _reopen() private {
        CheckIns storage running = _running();
        for (uint256 i = running.count; i > 0; i--) {
            uint32 index = running.entries[i - 1].participant;
            if (!_participants[index].active) _dropCheckIn(index);
        }
        state = State.CHECKIN;
        emit RoundReopened(round, term, running.count, _config.minPeers);
    }

    /// @return unfinished Whether any of those left out is active and has not finished.
    function _leaveOut(string[] calldata names, string[] calldata reasons) private returns (bool unfinished) {
        if (names.length != reasons.length) revert Malformed("reasons");
        for (uint256 i = 0; i < names.length; i++) {
            uint32 index = _indexNamed(names[i]);
            uint256 position = _positionOf(index);
            if (position == 0) revert NotAParticipant(names[i], round);
            if (_participants[index].active && !_running().entries[position - 1].finished) unfinished = true;
            _dropCheckIn(index);
            emit LeftOut(round, term, names[i], reasons[i]);
        }
    }

    function _dropCheckIn(uint32 index) private {
        CheckIns storage running = _running();
        uint32 position = running.positions[index].plusOne;
        CheckIn storage last = running.entries[running.count - 1];
        if (last.participant != index) {
            running.positions[last.participant].plusOne = position;
            running.entries[position - 1] = last;
        }
        running.count -= 1;
        running.positions[index].plusOne = 0;
    }

    function _deactivate(uint32 index) private {
        uint256 position = _activePosition[index];
        uint32 last = _active[_active.length - 1];
        if (last != index) {
            _active[position - 1] = last;
            _activePosition[last] = position;
        }
        _active.pop();
        delete _activePosition[index];
    }

    /// @dev Sets the size on the first result; those left out do not count. Later check-ins are compared when made.
    function _agreeOnSize(uint64 size) private {
        if (_size == 0) {
            CheckIns storage running = _running();
            for (uint256 i = 0; i < running.count; i++) {
                if (running.entries[i].size != size) revert SizeDiffers(size, running.entries[i].size);
            }
            _size = size;
        } else if (_size != size) {
            revert SizeDiffers(size, _size);
        }
    }

    /// @dev Whether the training is complete: all merged participants that are still active have finished, at least
    ///      minPeers of those merged have, and all active ones were merged or have been awaited long enough. An active
    ///      one that was left out and has not finished keeps the training going.
    function _ends(bool unfinishedLeftOut) private returns (bool) {
        CheckIns storage running = _running();
        uint256 have = running.count;
        uint256 finished = 0;
        uint256 present = 0;
        bool training = unfinishedLeftOut;
        for (uint256 i = 0; i < have; i++) {
            CheckIn storage entry = running.entries[i];
            bool active = _participants[entry.participant].active;
            if (active) present += 1;
            if (entry.finished) finished += 1;
            else if (active) training = true;
        }
        if (training || finished < _config.minPeers) {
            _lastRounds = 0;
            return false;
        }
        _lastRounds += 1;
        return present == _active.length || _lastRounds >= LAST_ROUNDS;
    }

    /// @dev Chooses the interval after this round by the loss of the previous round's model, averaged over all reports,
    ///      against the mean of up to WINDOW earlier rounds. An improvement by more than a hundredth doubles it, none
    ///      halves it, within a quarter of syncFrequency and four times syncFrequency.
    function _chooseInterval() private {
        uint8 reason = NO_LOSS;
        int256 mean = 0;
        int256 earlier = 0;
        if (_reports.losses > 0) {
            mean = _reports.lossSum / int256(uint256(_reports.losses));
            uint256 known = _lossesSeen < WINDOW ? _lossesSeen : WINDOW;
            reason = FIRST_LOSS;
            if (known > 0) {
                for (uint256 i = 0; i < known; i++) earlier += _losses[i];
                earlier /= int256(known);
                reason = _judged(earlier - mean, earlier < 0 ? -earlier : earlier);
            }
            _losses[_lossesSeen % WINDOW] = mean;
            _lossesSeen += 1;
            uint256 given = _config.syncFrequency;
            uint256 next = _interval;
            if (reason == IMPROVED) {
                next = next * 2 < given * 4 ? next * 2 : given * 4;
                if (next > type(uint32).max) next = type(uint32).max;
            } else if (reason == NOT_IMPROVED) {
                next = next / 2 > (given + 3) / 4 ? next / 2 : (given + 3) / 4;
            }
            _interval = uint32(next);
        }
        emit IntervalChosen(round, _interval, reason, mean, earlier);
    }

    function _judged(int256 gain, int256 size) private pure returns (uint8) {
        if (gain <= 0) return NOT_IMPROVED;
        return gain * THRESHOLD_PARTS > size ? IMPROVED : IMPROVED_LITTLE;
    }

    /// @dev Tracks the round with the best mean metric. True if `patience` reported rounds have passed since.
    function _stopsEarly() private returns (bool) {
        if (_config.patience == 0 || _reports.metrics == 0) return false;
        int256 mean = _reports.metricSum / int256(uint256(_reports.metrics));
        if (_bestRound == 0 || (_config.metricDown ? mean < _bestMetric : mean > _bestMetric)) {
            _bestRound = lastAccepted;
            _bestMetric = mean;
            _withoutBetter = 0;
            emit BestMerged(lastAccepted, mean);
            return false;
        }
        _withoutBetter += 1;
        return _withoutBetter >= _config.patience;
    }

    /// @dev Adds a report to the sums, or subtracts an earlier one of the same participant (sign -1).
    function _count(uint64 lossBits, uint64 metricBits, int256 sign) private {
        (bool counts, int256 value) = _fixed(lossBits);
        if (counts) {
            _reports.lossSum += sign * value;
            _reports.losses = sign > 0 ? _reports.losses + 1 : _reports.losses - 1;
        }
        (counts, value) = _fixed(metricBits);
        if (counts) {
            _reports.metricSum += sign * value;
            _reports.metrics = sign > 0 ? _reports.metrics + 1 : _reports.metrics - 1;
        }
    }

    /// @dev A double in units of 2^-64, truncated. False for NaN, infinity and values beyond 2^148.
    function _fixed(uint64 bits) private pure returns (bool, int256) {
        uint256 exponent = (bits >> 52) & 0x7ff;
        uint256 magnitude = bits & 0xfffffffffffff;
        if (exponent > 1170) return (false, 0);
        if (exponent > 0) magnitude |= 1 << 52;
        else exponent = 1;
        // The value is magnitude * 2^(exponent - 1075).
        magnitude = exponent >= 1011 ? magnitude << (exponent - 1011) : magnitude >> (1011 - exponent);
        return (true, bits >> 63 == 1 ? -int256(magnitude) : int256(magnitude));
    }

    function _countVotes() private view returns (uint32 votes, uint32 followers) {
        CheckIns storage running = _running();
        uint256 have = running.count;
        for (uint256 i = 0; i < have; i++) {
            uint32 index = running.entries[i].participant;
            if (index == leader || !_participants[index].active) continue;
            followers += 1;
            if (_hasVoted(index)) votes += 1;
        }
    }

    function _decimal(uint256 value) private pure returns (string memory) {
        if (value == 0) return "0";
        uint256 digits;
        for (uint256 rest = value; rest > 0; rest /= 10) digits += 1;
        bytes memory text = new bytes(digits);
        for (; value > 0; value /= 10) {
            digits -= 1;
            text[digits] = bytes1(uint8(48 + (value % 10)));
        }
        return string(text);
    }
}
