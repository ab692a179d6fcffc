// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// @title The directory of one swarm: its members, the accounts that may write, and the contracts it uses.
/// @notice Deployed once by the sentinel. Only accounts of registered SN nodes write, here and in every
///         contract that asks this one.
contract SwarmNetwork {
    error NotARegisteredSN(address account);
    error NameTaken(string name, bytes32 enrolledFingerprint);
    error KeyWasReplaced(string name, bytes32 key);
    error UnknownMember(string name);
    error ContractNameTaken(string name, address existing);
    error LastSN(address account);
    error Malformed(string field);

    event MemberRegistered(
        string name, Role role, string host, uint16 port, bytes32 fingerprint, string parent, string organization
    );
    /// @param by             Role and name of whoever replaced it: the member itself, or an administrator.
    /// @param at             Milliseconds since 1970, UTC, by the clock of the SN that wrote it.
    /// @param overlapSeconds For how long the key before is still good.
    event KeyReplaced(
        string name, Role role, bytes32 before, bytes32 key, string by, uint64 at, uint32 overlapSeconds
    );
    event MemberLeft(string name, Role role, string reason);
    event SNAccountAdded(address indexed account, string name);
    event SNAccountRemoved(address indexed account);
    event ContractRegistered(string name, string kind, address location);

    enum Role { NONE, SN, SL, SWOP, SWCI }

    /// @param fingerprint SHA-256 of the member's public key (SubjectPublicKeyInfo, DER).
    /// @param parent      Name of the SN through which the member registered; its own name for an SN.
    /// @param present     False after the member left or was found dead; true again when it comes back.
    struct Member {
        string name;
        Role role;
        string host;
        uint16 port;
        bytes32 fingerprint;
        string parent;
        bool present;
        string organization; // whose CA has named it, as its parent found; empty without a trust file
    }

    struct Entry {
        string name;
        string kind;
        address location;
    }

    mapping(address account => bool) public isSN;
    uint256 public snCount;

    Member[] private _members;
    mapping(bytes32 key => uint256 indexPlusOne) private _memberIndex;
    mapping(bytes32 key => mapping(bytes32 fingerprint => bool)) private _replaced;

    Entry[] private _entries;
    mapping(bytes32 key => uint256 indexPlusOne) private _entryIndex;

    modifier onlySN() {
        if (!isSN[msg.sender]) revert NotARegisteredSN(msg.sender);
        _;
    }

    /// @notice The account that deploys is the sentinel's and may write from the start.
    constructor() {
        isSN[msg.sender] = true;
        snCount = 1;
        emit SNAccountAdded(msg.sender, "");
    }

    // --- accounts -----------------------------------------------------------------------------------

    function addSNAccount(address account, string calldata name) external onlySN {
        if (account == address(0)) revert Malformed("account");
        if (isSN[account]) return;
        isSN[account] = true;
        snCount += 1;
        emit SNAccountAdded(account, name);
    }

    function removeSNAccount(address account) external onlySN {
        if (!isSN[account]) return;
        if (snCount == 1) revert LastSN(account);
        isSN[account] = false;
        snCount -= 1;
        emit SNAccountRemoved(account);
    }

    // --- members ------------------------------------------------------------------------------------

    /// @notice Registers a member, or brings one back under the same key, perhaps at another address.
    function registerMember(
        string calldata name,
        Role role,
        string calldata host,
        uint16 port,
        bytes32 fingerprint,
        string calldata parent,
        string calldata organization
    ) external onlySN {
        if (bytes(name).length == 0) revert Malformed("name");
        if (role == Role.NONE) revert Malformed("role");
        if (fingerprint == 0) revert Malformed("fingerprint");
        bytes32 key = _memberKey(role, name);
        uint256 slot = _memberIndex[key];
        if (slot == 0) {
            _members.push(Member(name, role, host, port, fingerprint, parent, true, organization));
            _memberIndex[key] = _members.length;
        } else {
            Member storage member = _members[slot - 1];
            if (member.fingerprint != fingerprint) revert NameTaken(name, member.fingerprint);
            member.host = host;
            member.port = port;
            member.parent = parent;
            member.present = true;
            member.organization = organization;
        }
        emit MemberRegistered(name, role, host, port, fingerprint, parent, organization);
    }

    /// @notice A new key takes the place of the one that is known. A key that was replaced never comes back, so an
    ///         old handover cannot be used again.
    function replaceKey(
        Role role,
        string calldata name,
        bytes32 before,
        bytes32 fingerprint,
        string calldata by,
        uint64 at,
        uint32 overlapSeconds
    ) external onlySN {
        if (fingerprint == 0) revert Malformed("fingerprint");
        bytes32 key = _memberKey(role, name);
        uint256 slot = _memberIndex[key];
        if (slot == 0) revert UnknownMember(name);
        Member storage member = _members[slot - 1];
        if (member.fingerprint != before) revert NameTaken(name, member.fingerprint);
        if (before == fingerprint || _replaced[key][fingerprint]) revert KeyWasReplaced(name, fingerprint);
        _replaced[key][before] = true;
        member.fingerprint = fingerprint;
        emit KeyReplaced(name, role, before, fingerprint, by, at, overlapSeconds);
    }

    /// @notice Of an SL; zero where there is none of that name.
    function keyOfSL(string calldata name) external view returns (bytes32) {
        uint256 slot = _memberIndex[_memberKey(Role.SL, name)];
        return slot == 0 ? bytes32(0) : _members[slot - 1].fingerprint;
    }

    function markMemberLeft(Role role, string calldata name, string calldata reason) external onlySN {
        uint256 slot = _memberIndex[_memberKey(role, name)];
        if (slot == 0) revert UnknownMember(name);
        _members[slot - 1].present = false;
        emit MemberLeft(name, role, reason);
    }

    function memberCount() external view returns (uint256) {
        return _members.length;
    }

    /// @notice A page of members in the order of their first registration; short at the end.
    function members(uint256 offset, uint256 limit) external view returns (Member[] memory page) {
        uint256 size = _pageSize(_members.length, offset, limit);
        page = new Member[](size);
        for (uint256 i = 0; i < size; i++) page[i] = _members[offset + i];
    }

    function memberNamed(Role role, string calldata name) external view returns (Member memory) {
        uint256 slot = _memberIndex[_memberKey(role, name)];
        if (slot == 0) revert UnknownMember(name);
        return _members[slot - 1];
    }

    // --- directory of contracts -----------------------------------------------------------------------

    /// @notice Records a contract under a name, for good: names are never given twice.
    function registerContract(string calldata name, string calldata kind, address location) external onlySN {
        if (bytes(name).length == 0) revert Malformed("name");
        if (location == address(0)) revert Malformed("location");
        bytes32 key = keccak256(bytes(name));
        uint256 slot = _entryIndex[key];
        if (slot != 0) revert ContractNameTaken(name, _entries[slot - 1].location);
        _entries.push(Entry(name, kind, location));
        _entryIndex[key] = _entries.length;
        emit ContractRegistered(name, kind, location);
    }

    /// @notice The address recorded for a name; zero if there is none.
    function contractNamed(string calldata name) external view returns (address) {
        uint256 slot = _entryIndex[keccak256(bytes(name))];
        return slot == 0 ? address(0) : _entries[slot - 1].location;
    }

    function contractCount() external view returns (uint256) {
        return _entries.length;
    }

    function contracts(uint256 offset, uint256 limit) external view returns (Entry[] memory page) {
        uint256 size = _pageSize(_entries.length, offset, limit);
        page = new Entry[](size);
        for (uint256 i = 0; i < size; i++) page[i] = _entries[offset + i];
    }

    // --- helpers --------------------------------------------------------------------------------------

    function _memberKey(Role role, string calldata name) private pure returns (bytes32) {
        return keccak256(abi.encode(role, name));
    }

    function _pageSize(uint256 length, uint256 offset, uint256 limit) private pure returns (uint256) {
        if (offset >= length) return 0;
        uint256 rest = length - offset;
        return rest < limit ? rest : limit;
    }
}
