package membership

import (
	"cmp"
	"slices"
)

// Limits. Replicas decide by them, so they are part of the meaning of a logged
// command.
const (
	// MaxMembers bounds the members of a cluster; one that is to be replaced is not
	// counted. A larger Raft group only gets slower.
	MaxMembers = 9
	// MaxIDStep bounds how far above the highest id there ever was a new one may be:
	// a slip of the pen must not use all of them up.
	MaxIDStep = 1 << 20
	// MaxAddressBytes bounds an address.
	MaxAddressBytes = 255
	// MaxInstanceBytes bounds the name of a data directory.
	MaxInstanceBytes = 64
	// MaxCommandBytes bounds an encoded command.
	MaxCommandBytes = 16 << 10
	// MaxLevel bounds the level of formats.
	MaxLevel = 1 << 16
	// firstLevel is that of a cluster that was never raised.
	firstLevel = 1
)

// Member is one coordinator.
type Member struct {
	// ID is its node id, at least 1, and never used again.
	ID uint64
	// Instance names its data directory; "": it has not told yet.
	Instance string
	// ClientAddress and PeerAddress are where clients and nodes reach it.
	ClientAddress, PeerAddress string
	// Voter: it votes. A member that joins does not yet.
	Voter bool
	// Leaving: it is to vote no more, and then to be forgotten.
	Leaving bool
	// Replaces is the member whose place it takes while it joins; 0: none.
	Replaces uint64
}

// Membership is the state. The zero value is that of a cluster that has not
// founded itself.
type Membership struct {
	members []Member // by id
	lastID  uint64   // the highest that ever was a member's
	version uint64   // counts changes
	level   uint32   // of formats, see package level; 0: the first
}

// New returns the state before the first command.
func New() *Membership { return &Membership{} }

// Founded reports whether the first members are known.
func (m *Membership) Founded() bool { return m.version > 0 }

// Level is the level of formats that the members write; see package level.
func (m *Membership) Level() uint32 { return max(m.level, firstLevel) }

// Version counts the changes of the state.
func (m *Membership) Version() uint64 { return m.version }

// LastID is the highest id that a member ever had.
func (m *Membership) LastID() uint64 { return m.lastID }

// Members returns the members by id. They must not be modified.
func (m *Membership) Members() []Member { return m.members }

// Member returns a member.
func (m *Membership) Member(id uint64) (Member, bool) {
	if i, ok := m.find(id); ok {
		return m.members[i], true
	}
	return Member{}, false
}

// Removed reports whether the id is no member's and never will be.
func (m *Membership) Removed(id uint64) bool {
	_, member := m.find(id)
	return m.Founded() && !member && id <= m.lastID
}

// Changing returns the member that joins or leaves; there is at most one.
func (m *Membership) Changing() (Member, bool) {
	i := slices.IndexFunc(m.members, func(x Member) bool { return !x.Voter || x.Leaving })
	if i < 0 {
		return Member{}, false
	}
	return m.members[i], true
}

func (m *Membership) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(m.members, id, func(x Member, id uint64) int { return cmp.Compare(x.ID, id) })
}

// Command is one of the command types of this package. The set is closed.
type Command interface{ command() }

// Found writes down the first members, all of them voters. Of the members only id
// and addresses are taken. A cluster that has done so stays as it is.
type Found struct{ Members []Member }

// Add has a new member join, in the place of another one if Replaces is not 0.
type Add struct {
	ID                         uint64
	ClientAddress, PeerAddress string
	Replaces                   uint64
}

// Announce tells the data directory of a member, and where it is reached.
type Announce struct {
	ID                                   uint64
	Instance, ClientAddress, PeerAddress string
	// Joining: it takes no part in Raft yet, and asks whether it may. The first
	// directory that asks may, and no other ever.
	Joining bool
}

// Settle says that a member votes, and that the one that it replaces does not.
type Settle struct{ ID uint64 }

// Remove has a member leave. One that joins goes without having voted.
type Remove struct{ ID uint64 }

// Keep takes the removal of a voter back.
type Keep struct{ ID uint64 }

// Forget says that a member that leaves is none of the Raft group any more.
type Forget struct{ ID uint64 }

// Raise raises the level of formats. Whoever proposes it has heard from every node
// of the cluster that it reads that level. It never goes back: an older one changes
// nothing.
type Raise struct{ Level uint32 }

func (Found) command()    {}
func (Add) command()      {}
func (Announce) command() {}
func (Settle) command()   {}
func (Remove) command()   {}
func (Keep) command()     {}
func (Forget) command()   {}
func (Raise) command()    {}

// Code says how a command ended.
type Code uint8

// The codes.
const (
	CodeOK             Code = iota + 1
	CodeNotFounded          // the first members are not written down yet
	CodeInvalidMember       // an id of 0, an address or instance that is empty or too long, or no members
	CodeIDUsed              // the id is, or was, another member's; Result.LastID
	CodeAddressUsed         // another member has the address; Result.Member
	CodeUnknownMember       // the id was never a member's
	CodeRemoved             // the id was a member's and is none any more
	CodeOtherInstance       // the member has another data directory
	CodeChangePending       // another member joins or leaves; Result.Member
	CodeTooManyMembers      // there are MaxMembers
	CodeLastVoter           // nobody would be left to vote
	CodeNotVoter            // a member that joins or leaves cannot be replaced or kept
	CodeIDTooHigh           // the id is more than MaxIDStep above Result.LastID
	CodeInvalidLevel        // a level above MaxLevel
)

var codeNames = [...]string{
	CodeOK: "OK", CodeNotFounded: "NOT_FOUNDED", CodeInvalidMember: "INVALID_MEMBER", CodeIDUsed: "ID_USED",
	CodeAddressUsed: "ADDRESS_USED", CodeUnknownMember: "UNKNOWN_MEMBER", CodeRemoved: "REMOVED",
	CodeOtherInstance: "OTHER_INSTANCE", CodeChangePending: "CHANGE_PENDING", CodeTooManyMembers: "TOO_MANY_MEMBERS",
	CodeLastVoter: "LAST_VOTER", CodeNotVoter: "NOT_VOTER", CodeIDTooHigh: "ID_TOO_HIGH",
	CodeInvalidLevel: "INVALID_LEVEL",
}

// String returns the code's name.
func (c Code) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return "?"
}

// Result is what a command did.
type Result struct {
	Code Code
	// Changed: the state is another one than before.
	Changed bool
	// Member is the one that the command is about, as it is now or was last, or the
	// one that is in the way.
	Member Member
	// LastID is the highest id that a member ever had.
	LastID uint64
}

// Apply carries out a command. It is total: any command in any state has a result,
// the same on every replica.
func (m *Membership) Apply(cmd Command) Result {
	before := m.version
	var res Result
	switch c := cmd.(type) {
	case Found:
		res = m.found(c)
	case Add:
		res = m.add(c)
	case Announce:
		res = m.announce(c)
	case Settle:
		res = m.settle(c)
	case Remove:
		res = m.remove(c)
	case Keep:
		res = m.keep(c)
	case Forget:
		res = m.forget(c)
	case Raise:
		res = m.raise(c)
	default:
		res = Result{Code: CodeInvalidMember}
	}
	res.Changed, res.LastID = m.version != before, m.lastID
	return res
}

// replace puts a new list in the place of the old one, which is never changed: it
// is in the hands of readers.
func (m *Membership) replace(members []Member) {
	m.members = members
	m.version++
}

func (m *Membership) put(i int, x Member) Result {
	if m.members[i] != x {
		members := slices.Clone(m.members)
		members[i] = x
		m.replace(members)
	}
	return Result{Code: CodeOK, Member: x}
}

// member finds who a command is about.
func (m *Membership) member(id uint64) (int, Result) {
	i, ok := m.find(id)
	switch {
	case !m.Founded():
		return 0, Result{Code: CodeNotFounded}
	case ok:
		return i, Result{Code: CodeOK, Member: m.members[i]}
	case id > 0 && id <= m.lastID:
		return 0, Result{Code: CodeRemoved}
	default:
		return 0, Result{Code: CodeUnknownMember}
	}
}

func (m *Membership) found(c Found) Result {
	if m.Founded() {
		return Result{Code: CodeOK}
	}
	members := make([]Member, 0, len(c.Members))
	for _, x := range c.Members {
		members = append(members, Member{ID: x.ID, ClientAddress: x.ClientAddress, PeerAddress: x.PeerAddress, Voter: true})
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	if len(members) == 0 || len(members) > MaxMembers {
		return Result{Code: CodeInvalidMember}
	}
	for i, x := range members {
		// Addresses may be missing: members announce them.
		if x.ID == 0 || i > 0 && members[i-1].ID == x.ID || len(x.ClientAddress) > MaxAddressBytes || len(x.PeerAddress) > MaxAddressBytes {
			return Result{Code: CodeInvalidMember}
		}
	}
	m.lastID = members[len(members)-1].ID
	m.replace(members)
	return Result{Code: CodeOK}
}

func (m *Membership) add(c Add) Result {
	if !m.Founded() {
		return Result{Code: CodeNotFounded}
	}
	if !validAddress(c.ClientAddress) || !validAddress(c.PeerAddress) || c.ID == 0 {
		return Result{Code: CodeInvalidMember}
	}
	if x, ok := m.Member(c.ID); ok && !x.Voter && !x.Leaving && x.Replaces == c.Replaces && x.ClientAddress == c.ClientAddress && x.PeerAddress == c.PeerAddress {
		return Result{Code: CodeOK, Member: x} // said twice
	}
	if c.ID <= m.lastID {
		return Result{Code: CodeIDUsed}
	}
	if c.ID-m.lastID > MaxIDStep {
		return Result{Code: CodeIDTooHigh}
	}
	if x, changing := m.Changing(); changing {
		return Result{Code: CodeChangePending, Member: x}
	}
	members := len(m.members)
	if c.Replaces != 0 {
		if _, res := m.member(c.Replaces); res.Code != CodeOK {
			return res
		}
		members--
	}
	if members >= MaxMembers {
		return Result{Code: CodeTooManyMembers}
	}
	if x, taken := m.addressOf(c.ClientAddress, c.PeerAddress, c.Replaces); taken {
		return Result{Code: CodeAddressUsed, Member: x}
	}
	x := Member{ID: c.ID, ClientAddress: c.ClientAddress, PeerAddress: c.PeerAddress, Replaces: c.Replaces}
	m.lastID = c.ID
	m.replace(append(slices.Clone(m.members), x))
	return Result{Code: CodeOK, Member: x}
}

// addressOf returns a member that has one of the addresses, except two.
func (m *Membership) addressOf(client, peer string, except ...uint64) (Member, bool) {
	for _, x := range m.members {
		if slices.Contains(except, x.ID) {
			continue
		}
		for _, a := range []string{x.ClientAddress, x.PeerAddress} {
			if a != "" && (a == client || a == peer) {
				return x, true
			}
		}
	}
	return Member{}, false
}

func (m *Membership) announce(c Announce) Result {
	i, res := m.member(c.ID)
	if res.Code != CodeOK {
		return res
	}
	x := res.Member
	if c.Instance == "" || len(c.Instance) > MaxInstanceBytes || !validAddress(c.ClientAddress) || !validAddress(c.PeerAddress) {
		return Result{Code: CodeInvalidMember}
	}
	// A voter without an instance has voted from a directory that nobody knows
	// here yet: this one need not be it.
	if x.Instance != "" && x.Instance != c.Instance || x.Instance == "" && c.Joining == x.Voter {
		return Result{Code: CodeOtherInstance, Member: x}
	}
	others := []uint64{x.ID, x.Replaces}
	if successor, ok := m.Changing(); ok && successor.Replaces == x.ID {
		others = append(others, successor.ID)
	}
	if other, taken := m.addressOf(c.ClientAddress, c.PeerAddress, others...); taken {
		return Result{Code: CodeAddressUsed, Member: other}
	}
	x.Instance, x.ClientAddress, x.PeerAddress = c.Instance, c.ClientAddress, c.PeerAddress
	return m.put(i, x)
}

func (m *Membership) settle(c Settle) Result {
	i, res := m.member(c.ID)
	if res.Code != CodeOK {
		return res
	}
	x := res.Member
	replaced := x.Replaces
	x.Voter, x.Replaces = true, 0
	members := slices.Clone(m.members)
	members[i] = x
	if replaced != 0 {
		members = slices.DeleteFunc(members, func(x Member) bool { return x.ID == replaced })
	}
	if len(members) == 1 && x.Leaving { // it was called off too late, and nobody else votes
		members[0].Leaving, x.Leaving = false, false
	}
	if !slices.Equal(members, m.members) {
		m.replace(members)
	}
	return Result{Code: CodeOK, Member: x}
}

func (m *Membership) remove(c Remove) Result {
	i, res := m.member(c.ID)
	if res.Code != CodeOK || res.Member.Leaving {
		return res
	}
	x := res.Member
	if other, changing := m.Changing(); changing && other.ID != x.ID {
		return Result{Code: CodeChangePending, Member: other}
	}
	if x.Voter && len(m.members) == 1 {
		return Result{Code: CodeLastVoter, Member: x}
	}
	// Replaces stays: the place may be taken already, and then Settle is still due.
	x.Leaving = true
	return m.put(i, x)
}

func (m *Membership) keep(c Keep) Result {
	i, res := m.member(c.ID)
	if res.Code != CodeOK {
		return res
	}
	x := res.Member
	if !x.Voter {
		return Result{Code: CodeNotVoter, Member: x}
	}
	x.Leaving = false
	return m.put(i, x)
}

func (m *Membership) forget(c Forget) Result {
	i, res := m.member(c.ID)
	if res.Code != CodeOK {
		return res
	}
	switch {
	case !res.Member.Leaving:
		return Result{Code: CodeNotVoter, Member: res.Member}
	case len(m.members) == 1:
		return Result{Code: CodeLastVoter, Member: res.Member}
	}
	m.replace(slices.Delete(slices.Clone(m.members), i, i+1))
	return res
}

func (m *Membership) raise(c Raise) Result {
	switch {
	case !m.Founded():
		return Result{Code: CodeNotFounded}
	case c.Level > MaxLevel:
		return Result{Code: CodeInvalidLevel}
	case c.Level > m.Level():
		m.level = c.Level
		m.version++
	}
	return Result{Code: CodeOK}
}

func validAddress(a string) bool { return a != "" && len(a) <= MaxAddressBytes }
