// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// @title The directory of a swarm: organizations, members, accounts that may write, and contracts.
/// @notice Deployed once, by the sentinel. Only accounts of registered SNs may write, here and in every contract that
///         checks with this one. Without a trust file there is one organization, with an empty name.
contract SwarmNetwork {
    error NotARegisteredSN(address account);
    error NameTaken(string name, bytes32 enrolledFingerprint);
    error KeyWasReplaced(string name, bytes32 key);
    error UnknownMember(string name);
    error ContractNameTaken(string name, address existing);
    error LastSN(address account);
    error Malformed(string field);
    error OrganizationNotHeld(string organization);
    error AnotherOrganization(string organization);
    error SNNotVotedIn(string name, string organization);
    error NoOrganizations();
    error NoSNWouldBeLeft(string organization);
    error NoSuchProposal(uint256 number);
    error ProposedByAnother(uint256 number, string organization);
    error TooManyProposals(string organization, uint256 limit);
    error Expelled(string name);

    event MemberRegistered(
        string name, Role role, string host, uint16 port, bytes32 fingerprint, string parent, string organization
    );
    /// @param by             Role and name of who replaced the key: the member itself or an administrator.
    /// @param at             Milliseconds since 1970-01-01 UTC, by the clock of the SN that wrote it.
    /// @param overlapSeconds How long the old key is still accepted.
    event KeyReplaced(
        string name, Role role, bytes32 before, bytes32 key, string by, uint64 at, uint32 overlapSeconds
    );
    event MemberLeft(string name, Role role, string reason);
    /// @param name Name in the certificate; covers all its slots.
    /// @param by   Role and name of an administrator of the member's organization; empty after a vote.
    event MemberExpelled(string name, Role role, string by);
    event SNAccountAdded(address indexed account, string name, string organization);
    event SNAccountRemoved(address indexed account);
    event ContractRegistered(string name, string kind, address location, string[] organizations);
    /// @param cas SHA-256 of the public key of each CA: the complete new list.
    event OrganizationAdmitted(string name, bytes32[] cas);
    event OrganizationRemoved(string name);
    /// @param proposer Organization that may withdraw the proposal.
    /// @param role     ADMIT_SN and EXPEL: role of the node.
    /// @param node     ADMIT_SN and EXPEL: name of the node.
    event Proposed(
        uint256 number,
        Change change,
        string organization,
        string proposer,
        bytes32[] cas,
        Role role,
        string node,
        address account,
        string by
    );
    /// @param by Role and name of the organization's administrator who ordered the vote.
    event Voted(uint256 number, string organization, string by);
    event CarriedOut(uint256 number);
    /// @param by Role and name of an administrator; empty if a newer request of the same SN replaces this one.
    event Withdrawn(uint256 number, string by);

    enum Role { NONE, SN, SL, SWOP, SWCI }

    /// @param fingerprint SHA-256 of the member's public key (SubjectPublicKeyInfo, DER).
    /// @param parent      Name of the SN through which the member registered; for an SN, its own name.
    /// @param present     False after the member left or was found dead; true again once it is back.
    struct Member {
        string name;
        Role role;
        string host;
        uint16 port;
        bytes32 fingerprint;
        string parent;
        bool present;
        string organization; // of the certificate's CA, as found by the parent; empty without a trust file
    }

    /// @param cas  SHA-256 of the public key of each CA.
    /// @param sns  How many of its accounts may write. Without any, the organization has no vote.
    /// @param held Whether it belongs to the swarm now.
    struct Organization {
        string name;
        bytes32[] cas;
        uint32 sns;
        bool held;
    }

    enum Change { ADMIT, ADMIT_SN, REMOVE, EXPEL }

    /// @param organization The organization to admit or remove, or that of the SN to admit or the node to expel.
    /// @param proposer     The organization that proposed it; for ADMIT_SN, that of the SN.
    /// @param at           Timestamp of the block, in seconds since 1970-01-01 UTC.
    /// @param cas          ADMIT: the complete new list of CAs.
    /// @param role         ADMIT_SN and EXPEL: role of the node.
    /// @param node         ADMIT_SN: name of the SN. EXPEL: name in the certificate.
    /// @param account      ADMIT_SN: account of the SN.
    /// @param voters       Organizations that voted for it.
    /// @param by           For each voter, the administrator who ordered the vote.
    struct Proposal {
        uint256 number;
        Change change;
        string organization;
        string proposer;
        uint64 at;
        bytes32[] cas;
        Role role;
        string node;
        address account;
        string[] voters;
        string[] by;
        bool open;
    }

    /// @param organizations Organizations that may take part in a training; empty: all.
    struct Entry {
        string name;
        string kind;
        address location;
        string[] organizations;
    }

    /// @notice How many open proposals one organization may have.
    uint256 public constant MOST_OPEN = 32;

    mapping(address account => bool) public isSN;
    uint256 public snCount;

    Organization[] private _organizations;
    mapping(bytes32 key => uint256 indexPlusOne) private _organizationIndex;
    mapping(address account => uint256 index) private _organizationOf;
    mapping(address account => bytes32 key) private _nameOf;
    mapping(uint256 index => address[]) private _accountsOf;
    mapping(bytes32 key => uint256 indexPlusOne) private _expectedSN;
    uint256 private _held;

    Proposal[] private _proposals;
    mapping(bytes32 key => uint256 number) private _proposalNumber;
    mapping(bytes32 key => uint256 number) private _requestOf;
    mapping(bytes32 proposer => uint256) private _open;

    Member[] private _members;
    mapping(bytes32 key => uint256 indexPlusOne) private _memberIndex;
    mapping(bytes32 key => mapping(bytes32 fingerprint => bool)) private _replaced;
    mapping(bytes32 key => bool) private _expelled;

    Entry[] private _entries;
    mapping(bytes32 key => uint256 indexPlusOne) private _entryIndex;

    modifier onlySN() {
        if (!isSN[msg.sender]) revert NotARegisteredSN(msg.sender);
        _;
    }

    /// @notice The deploying account is the sentinel's and may write from the start.
    /// @param sn    Name of the sentinel.
    /// @param names Founding organizations; the sentinel belongs to the first.
    /// @param cas   CAs of each organization.
    /// @param sns   For each organization, names of SNs whose first account is admitted without a vote.
    constructor(string memory sn, string[] memory names, bytes32[][] memory cas, string[][] memory sns) {
        if (names.length == 0) revert Malformed("organizations");
        for (uint256 i = 0; i < names.length; i++) {
            uint256 index = _admit(names[i], cas[i]);
            for (uint256 j = 0; j < sns[i].length; j++) _expectedSN[keccak256(bytes(sns[i][j]))] = index + 1;
        }
        _addAccount(msg.sender, sn, 0);
    }

    // --- accounts -----------------------------------------------------------------------------------

    /// @notice Lets an SN's account write. If there are several organizations, they must vote on it first, unless it is
    ///         the first account of an SN that the constructor named.
    function addSNAccount(address account, string calldata name, string calldata organization) external onlySN {
        if (account == address(0)) revert Malformed("account");
        if (isSN[account]) return;
        _requireNotExpelled(Role.SN, name);
        if (needsVotes(name, organization)) revert SNNotVotedIn(name, organization);
        _addAccount(account, name, _heldIndex(organization));
    }

    /// @notice Whether an SN of this name needs a vote before it may write.
    function needsVotes(string calldata name, string calldata organization) public view returns (bool) {
        return _held > 1 && _expectedSN[keccak256(bytes(name))] != _heldIndex(organization) + 1;
    }

    function removeSNAccount(address account) external onlySN {
        if (!isSN[account]) return;
        uint256 index = _organizationOf[account];
        if (index != _organizationOf[msg.sender]) revert AnotherOrganization(_organizations[index].name);
        if (snCount == 1) revert LastSN(account);
        _removeAccount(account);
    }

    // --- organizations ------------------------------------------------------------------------------

    /// @notice Proposes a change and votes for it on behalf of the sender's organization. If the same change is
    ///         proposed already, only votes for it. To expel a node, use ``expel``.
    /// @param by Role and name of the administrator who ordered it; empty if an SN asks to join, which casts no vote.
    function propose(
        Change change,
        string calldata organization,
        bytes32[] calldata cas,
        string calldata sn,
        address account,
        string calldata by
    ) external onlySN {
        _requireOrganizations();
        _check(change, organization, cas, sn, account, by);
        Proposal memory wanted;
        (wanted.change, wanted.organization, wanted.cas) = (change, organization, cas);
        if (change == Change.ADMIT_SN) {
            _requireNotExpelled(Role.SN, sn);
            (wanted.role, wanted.node, wanted.account, wanted.proposer) = (Role.SN, sn, account, organization);
        } else {
            wanted.proposer = _organizationOfSender();
        }
        _propose(wanted, by);
    }

    /// @notice Expels a node of the sender's organization for good. For a node of another organization, proposes it and
    ///         votes for it on behalf of the sender's organization.
    /// @param name Registered name of the node. All slots of its certificate are expelled.
    /// @param by   Role and name of the administrator who ordered it.
    function expel(Role role, string calldata name, string calldata by) external onlySN {
        if (bytes(by).length == 0) revert Malformed("by");
        uint256 slot = _memberIndex[_memberKey(role, name)];
        if (slot == 0) revert UnknownMember(name);
        string memory organization = _members[slot - 1].organization;
        string memory own = _organizationOfSender();
        string memory node = _certificateName(name);
        _requireNotExpelled(role, node);
        if (keccak256(bytes(organization)) == keccak256(bytes(own))) {
            _expel(role, node, by);
            return;
        }
        _heldIndex(organization);
        Proposal memory wanted;
        (wanted.change, wanted.organization, wanted.proposer) = (Change.EXPEL, organization, own);
        (wanted.role, wanted.node) = (role, node);
        _propose(wanted, by);
    }

    /// @notice Withdraws an open proposal. Only its proposer may, or any organization once the proposer was removed.
    function withdraw(uint256 number, string calldata by) external onlySN {
        if (bytes(by).length == 0) revert Malformed("by");
        _requireOpen(number);
        Proposal storage proposal = _proposals[number - 1];
        bytes32 proposer = keccak256(bytes(proposal.proposer));
        bool isOwn = proposer == keccak256(bytes(_organizationOfSender()));
        if (!isOwn && _organizations[_organizationIndex[proposer] - 1].held) {
            revert ProposedByAnother(number, proposal.proposer);
        }
        _close(proposal);
        emit Withdrawn(number, by);
    }

    /// @notice Votes for a proposal on behalf of the sender's organization.
    function vote(uint256 number, string calldata by) external onlySN {
        if (bytes(by).length == 0) revert Malformed("by");
        _requireOpen(number);
        _vote(number, by);
    }

    /// @notice Number of the open proposal to admit this SN with this account; zero if there is none.
    function requestOf(string calldata organization, string calldata sn, address account)
        external
        view
        returns (uint256)
    {
        Proposal memory wanted;
        (wanted.change, wanted.organization) = (Change.ADMIT_SN, organization);
        (wanted.role, wanted.node, wanted.account) = (Role.SN, sn, account);
        return _proposalNumber[_proposalKey(wanted)];
    }

    /// @notice More than half of the organizations with at least one SN.
    function votesNeeded() public view returns (uint256) {
        uint256 voting = 0;
        for (uint256 i = 0; i < _organizations.length; i++) if (_votes(i)) voting += 1;
        return voting / 2 + 1;
    }

    function organizations(uint256 offset, uint256 limit) external view returns (Organization[] memory page) {
        uint256 size = _pageSize(_organizations.length, offset, limit);
        page = new Organization[](size);
        for (uint256 i = 0; i < size; i++) page[i] = _organizations[offset + i];
    }

    function proposals(uint256 offset, uint256 limit) external view returns (Proposal[] memory page) {
        uint256 size = _pageSize(_proposals.length, offset, limit);
        page = new Proposal[](size);
        for (uint256 i = 0; i < size; i++) page[i] = _proposals[offset + i];
    }

    // --- members ------------------------------------------------------------------------------------

    /// @notice Registers a member, or marks it present again under the same key, possibly at another address.
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
        _heldIndex(organization);
        _requireNotExpelled(role, name);
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

    /// @notice Replaces a member's key. A replaced key is never accepted again, so an old handover cannot be replayed.
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
        _requireNotExpelled(role, name);
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

    /// @notice Fingerprint of an SL's key; zero if there is no SL of that name.
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

    /// @notice A page of members in order of first registration; the last page may be shorter than ``limit``.
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

    /// @notice Records a contract under a name, permanently: a name is never reused.
    function registerContract(
        string calldata name, string calldata kind, address location, string[] calldata organizations_
    ) external onlySN {
        if (bytes(name).length == 0) revert Malformed("name");
        if (location == address(0)) revert Malformed("location");
        bytes32 key = keccak256(bytes(name));
        uint256 slot = _entryIndex[key];
        if (slot != 0) revert ContractNameTaken(name, _entries[slot - 1].location);
        for (uint256 i = 0; i < organizations_.length; i++) _heldIndex(organizations_[i]);
        _entries.push(Entry(name, kind, location, organizations_));
        _entryIndex[key] = _entries.length;
        emit ContractRegistered(name, kind, location, organizations_);
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

    function _admit(string memory name, bytes32[] memory cas) private returns (uint256 index) {
        bytes32 key = keccak256(bytes(name));
        uint256 slot = _organizationIndex[key];
        if (slot == 0) {
            _organizations.push();
            slot = _organizations.length;
            _organizationIndex[key] = slot;
            _organizations[slot - 1].name = name;
        }
        index = slot - 1;
        Organization storage organization = _organizations[index];
        if (!organization.held) _held += 1;
        (organization.cas, organization.held) = (cas, true);
        emit OrganizationAdmitted(name, cas);
    }

    function _remove(uint256 index) private {
        Organization storage organization = _organizations[index];
        organization.held = false;
        delete organization.cas;
        _held -= 1;
        while (organization.sns > 0) _removeAccount(_accountsOf[index][0]);
        emit OrganizationRemoved(organization.name);
    }

    function _addAccount(address account, string memory name, uint256 index) private {
        bytes32 key = keccak256(bytes(name));
        isSN[account] = true;
        snCount += 1;
        _organizations[index].sns += 1;
        _accountsOf[index].push(account);
        (_organizationOf[account], _nameOf[account]) = (index, key);
        delete _expectedSN[key];
        emit SNAccountAdded(account, name, _organizations[index].name);
    }

    function _removeAccount(address account) private {
        uint256 index = _organizationOf[account];
        isSN[account] = false;
        snCount -= 1;
        _organizations[index].sns -= 1;
        address[] storage accounts = _accountsOf[index];
        for (uint256 i = 0; i < accounts.length; i++) {
            if (accounts[i] == account) {
                accounts[i] = accounts[accounts.length - 1];
                accounts.pop();
                break;
            }
        }
        emit SNAccountRemoved(account);
    }

    /// @dev Removes an SN's accounts before emitting the event: whoever sees it knows that the SN can no longer write.
    function _expel(Role role, string memory node, string memory by) private {
        bytes32 key = _memberKey(role, node);
        if (_expelled[key]) return;
        _expelled[key] = true;
        uint256 slot = _memberIndex[key];
        if (slot != 0) {
            Member storage member = _members[slot - 1];
            member.present = false;
            if (role == Role.SN) _removeAccountsOf(node, member.organization);
        }
        emit MemberExpelled(node, role, by);
    }

    /// @dev Reverts rather than remove the last account that may write.
    function _removeAccountsOf(string memory sn, string memory organization) private {
        address[] memory accounts = _accountsOf[_organizationIndex[keccak256(bytes(organization))] - 1];
        for (uint256 i = 0; i < accounts.length; i++) {
            if (_nameOf[accounts[i]] != keccak256(bytes(sn))) continue;
            if (snCount == 1) revert LastSN(accounts[i]);
            _removeAccount(accounts[i]);
        }
    }

    function _propose(Proposal memory wanted, string memory by) private {
        bytes32 key = _proposalKey(wanted);
        uint256 number = _proposalNumber[key];
        if (number == 0) {
            number = _proposals.length + 1;
            if (wanted.change == Change.ADMIT_SN) _replaceRequest(wanted.node, number);
            bytes32 proposer = keccak256(bytes(wanted.proposer));
            if (_open[proposer] >= MOST_OPEN) revert TooManyProposals(wanted.proposer, MOST_OPEN);
            _open[proposer] += 1;
            (wanted.number, wanted.at, wanted.open) = (number, uint64(block.timestamp), true);
            _proposals.push(wanted);
            _proposalNumber[key] = number;
            emit Proposed(
                number,
                wanted.change,
                wanted.organization,
                wanted.proposer,
                wanted.cas,
                wanted.role,
                wanted.node,
                wanted.account,
                by
            );
        }
        if (bytes(by).length != 0) _vote(number, by);
    }

    function _check(
        Change change,
        string calldata organization,
        bytes32[] calldata cas,
        string calldata sn,
        address account,
        string calldata by
    ) private view {
        if (change == Change.EXPEL) revert Malformed("change");
        if (bytes(organization).length == 0) revert Malformed("organization");
        if (change == Change.ADMIT) {
            if (cas.length == 0) revert Malformed("cas");
        } else {
            uint256 index = _heldIndex(organization);
            if (cas.length != 0) revert Malformed("cas");
            if (change == Change.REMOVE && _organizations[index].sns == snCount) revert NoSNWouldBeLeft(organization);
        }
        bool ofSN = change == Change.ADMIT_SN;
        if (ofSN != (bytes(sn).length != 0)) revert Malformed("sn");
        if (ofSN != (account != address(0)) || (ofSN && isSN[account])) revert Malformed("account");
        if (!ofSN && bytes(by).length == 0) revert Malformed("by");
    }

    /// @dev An SN that lost its data asks again with a new account; its earlier request is withdrawn.
    function _replaceRequest(string memory sn, uint256 number) private {
        bytes32 key = keccak256(bytes(sn));
        uint256 before = _requestOf[key];
        if (before != 0 && _proposals[before - 1].open) {
            _close(_proposals[before - 1]);
            emit Withdrawn(before, "");
        }
        _requestOf[key] = number;
    }

    function _vote(uint256 number, string memory by) private {
        Proposal storage proposal = _proposals[number - 1];
        string memory organization = _organizationOfSender();
        bytes32 voter = keccak256(bytes(organization));
        uint256 counted = 0;
        bool voted = false;
        for (uint256 i = 0; i < proposal.voters.length; i++) {
            bytes32 earlier = keccak256(bytes(proposal.voters[i]));
            if (earlier == voter) voted = true;
            if (_votes(_organizationIndex[earlier] - 1)) counted += 1;
        }
        if (!voted) {
            proposal.voters.push(organization);
            proposal.by.push(by);
            counted += 1;
            emit Voted(number, organization, by);
        }
        if (counted >= votesNeeded()) _carryOut(proposal);
    }

    function _carryOut(Proposal storage proposal) private {
        _close(proposal);
        emit CarriedOut(proposal.number);
        if (proposal.change == Change.ADMIT) {
            _admit(proposal.organization, proposal.cas);
            return;
        }
        if (proposal.change == Change.EXPEL) {
            _expel(proposal.role, proposal.node, "");
            return;
        }
        uint256 index = _heldIndex(proposal.organization);
        if (proposal.change == Change.REMOVE) {
            if (_organizations[index].sns == snCount) revert NoSNWouldBeLeft(proposal.organization);
            _remove(index);
            return;
        }
        _requireNotExpelled(Role.SN, proposal.node);
        bytes32 key = keccak256(bytes(proposal.node));
        address[] memory before = _accountsOf[index];
        _addAccount(proposal.account, proposal.node, index);
        for (uint256 i = 0; i < before.length; i++) if (_nameOf[before[i]] == key) _removeAccount(before[i]);
    }

    function _close(Proposal storage proposal) private {
        proposal.open = false;
        _open[keccak256(bytes(proposal.proposer))] -= 1;
        delete _proposalNumber[_proposalKey(proposal)];
    }

    function _requireOpen(uint256 number) private view {
        if (number == 0 || number > _proposals.length || !_proposals[number - 1].open) revert NoSuchProposal(number);
    }

    function _requireOrganizations() private view {
        if (bytes(_organizations[0].name).length == 0) revert NoOrganizations();
    }

    function _requireNotExpelled(Role role, string memory name) private view {
        if (_expelled[_memberKey(role, _certificateName(name))]) revert Expelled(name);
    }

    function _organizationOfSender() private view returns (string memory) {
        return _organizations[_organizationOf[msg.sender]].name;
    }

    /// @dev The name without the slot, which follows a slash.
    function _certificateName(string memory name) private pure returns (string memory cut) {
        bytes memory letters = bytes(name);
        uint256 length = 0;
        while (length < letters.length && letters[length] != "/") length += 1;
        if (length == letters.length) return name;
        bytes memory kept = new bytes(length);
        for (uint256 i = 0; i < length; i++) kept[i] = letters[i];
        return string(kept);
    }

    function _votes(uint256 index) private view returns (bool) {
        return _organizations[index].held && _organizations[index].sns > 0;
    }

    function _heldIndex(string memory organization) private view returns (uint256) {
        uint256 slot = _organizationIndex[keccak256(bytes(organization))];
        if (slot == 0 || !_organizations[slot - 1].held) revert OrganizationNotHeld(organization);
        return slot - 1;
    }

    /// @dev Identifies the proposed change, whoever proposes it.
    function _proposalKey(Proposal memory of_) private pure returns (bytes32) {
        return keccak256(abi.encode(of_.change, of_.organization, of_.cas, of_.role, of_.node, of_.account));
    }

    function _memberKey(Role role, string memory name) private pure returns (bytes32) {
        return keccak256(abi.encode(role, name));
    }

    function _pageSize(uint256 length, uint256 offset, uint256 limit) private pure returns (uint256) {
        if (offset >= length) return 0;
        uint256 rest = length - offset;
        return rest < limit ? rest : limit;
    }
}
