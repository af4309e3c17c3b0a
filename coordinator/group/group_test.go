package group

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// upTo is a catalogue of the partitions 1 to n.
type upTo uint64

func (n upTo) HasPartition(p uint64) bool { return p >= 1 && p <= uint64(n) }

// TopicPartitions: ten of them, by the names t0, t1, and so on.
func (n upTo) TopicPartitions(topic string) []uint64 {
	var out []uint64
	var number uint64
	if _, err := fmt.Sscanf(topic, "t%d", &number); err != nil {
		return nil
	}
	for p := number*10 + 1; p <= number*10+10 && n.HasPartition(p); p++ {
		out = append(out, p)
	}
	return out
}

const cat = upTo(100)

// must applies a command that has to be accepted.
func must(t *testing.T, m *Machine, cmd Command) Result {
	t.Helper()
	r := m.Apply(cat, cmd)
	if !r.OK() {
		t.Fatalf("%+v refused: %+v", cmd, r.Refusal)
	}
	check(t, m)
	return r
}

// refused applies a command that has to be refused and to change nothing.
func refused(t *testing.T, m *Machine, cmd Command, want Code) Result {
	t.Helper()
	before, now := m.Snapshot(), m.now
	r := m.Apply(cat, cmd)
	if r.Code != want || r.Changed {
		t.Fatalf("%+v: %v (changed %v), want %v", cmd, r.Code, r.Changed, want)
	}
	if m.now == now && !slices.Equal(before, m.Snapshot()) {
		t.Fatalf("%+v was refused but changed the state", cmd)
	}
	check(t, m)
	return r
}

func check(t *testing.T, m *Machine) {
	t.Helper()
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
}

func assign(member string, partitions ...uint64) AssignPartitions {
	return AssignPartitions{Group: "g", Member: member, Partitions: partitions}
}

func commit(member string, generation uint64, entries ...Entry) CommitOffsets {
	return CommitOffsets{Commit: Commit{Group: "g", Member: member, Generation: generation, Entries: entries}}
}

func first(p, offset uint64) Entry { return Entry{Partition: p, Offset: offset} }

func next(p, expected, offset uint64) Entry {
	return Entry{Partition: p, Offset: offset, Expected: expected, HasExpected: true}
}

func TestAssignPartitions(t *testing.T) {
	t.Parallel()
	m := New()
	r := must(t, m, assign("a", 2, 1, 2))
	if r.Generation != 1 || !r.Changed {
		t.Errorf("first member: generation %d, changed %v", r.Generation, r.Changed)
	}
	if want := []PartitionOffset{{Partition: 2}, {Partition: 1}, {Partition: 2}}; !reflect.DeepEqual(r.Offsets, want) {
		t.Errorf("offsets %+v, want %+v: in the order given", r.Offsets, want)
	}
	if r := must(t, m, assign("a", 1, 2)); r.Generation != 1 || r.Changed {
		t.Errorf("the same again: generation %d, changed %v", r.Generation, r.Changed)
	}
	if r := must(t, m, assign("b")); r.Generation != 1 || !r.Changed {
		t.Errorf("a member without partitions: generation %d, changed %v", r.Generation, r.Changed)
	}
	must(t, m, commit("a", 1, first(2, 20)))
	r = must(t, m, assign("b", 2, 3))
	if r.Generation != 2 || !r.Offsets[0].Committed || r.Offsets[0].Offset.Next != 20 || r.Offsets[1].Committed {
		t.Errorf("take-over: %+v", r)
	}
	// b gives up 3 and keeps 2 since generation 2; a gets 3 at generation 4.
	must(t, m, assign("b", 2))
	must(t, m, assign("a", 1, 3))
	d, _ := m.Describe("g")
	want := []Partition{
		{PartitionOffset: PartitionOffset{Partition: 1}, Member: "a", Since: 1},
		{PartitionOffset: PartitionOffset{Partition: 2, Committed: true, Offset: Offset{Next: 20, Member: "a"}}, Member: "b", Since: 2},
		{PartitionOffset: PartitionOffset{Partition: 3}, Member: "a", Since: 4},
	}
	if d.Generation != 4 || !reflect.DeepEqual(d.Partitions, want) {
		t.Errorf("generation %d\n%+v, want\n%+v", d.Generation, d.Partitions, want)
	}
}

func TestAssignPartitionsRefusals(t *testing.T) {
	t.Parallel()
	m := New()
	long := strings.Repeat("x", 256)
	refused(t, m, AssignPartitions{Member: "a"}, CodeInvalidGroup)
	refused(t, m, AssignPartitions{Group: long, Member: "a"}, CodeInvalidGroup)
	refused(t, m, AssignPartitions{Group: "g"}, CodeInvalidMember)
	refused(t, m, AssignPartitions{Group: "g", Member: long}, CodeInvalidMember)
	refused(t, m, AssignPartitions{Group: "g", Member: "a", ClientID: long}, CodeInvalidMember)
	refused(t, m, AssignPartitions{Group: "g", Member: "a", Host: long}, CodeInvalidMember)
	refused(t, m, assign("a", make([]uint64, MaxPartitions+1)...), CodeLimitExceeded)
	if r := refused(t, m, assign("a", 1, 101), CodeUnknownPartition); r.Partition != 101 {
		t.Errorf("unknown partition is said to be %d", r.Partition)
	}
	refused(t, m, nil, CodeInvalidCommand)
	if m.Has("g") {
		t.Error("a refused command made the group")
	}
}

// TestCommitCheck goes through the reasons of STALE_MEMBER.
func TestCommitCheck(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, assign("a", 1, 2)) // generation 1
	must(t, m, commit("a", 1, first(1, 10), first(2, 10)))
	must(t, m, assign("b", 2)) // generation 2
	must(t, m, commit("b", 2, next(2, 10, 12)))
	must(t, m, assign("a", 1, 2)) // generation 3: a has 2 back
	must(t, m, AssignPartitions{Group: "other", Member: "a"})

	tests := []struct {
		name   string
		commit CommitOffsets
		want   Refusal
	}{
		{"kept all along, old generation", commit("a", 1, next(1, 10, 11)), Refusal{}},
		{"kept all along, new generation", commit("a", 3, next(1, 10, 11)), Refusal{}},
		{"backwards is a seek", commit("a", 3, next(1, 10, 3)), Refusal{}},
		{"lost and got back, from before", commit("a", 1, next(2, 12, 13)),
			Refusal{Code: CodeStaleMember, Reason: ReasonGeneration, Group: "g", Partition: 2, Owner: "a", Need: 1, Have: 3}},
		{"lost and got back, since", commit("a", 3, next(2, 12, 13)), Refusal{}},
		{"a generation not reached", commit("a", 4, next(1, 10, 11)),
			Refusal{Code: CodeStaleMember, Reason: ReasonGeneration, Group: "g", Partition: 1, Owner: "a", Need: 4, Have: 1}},
		{"lost", commit("b", 3, next(2, 12, 13)),
			Refusal{Code: CodeStaleMember, Reason: ReasonNotOwner, Group: "g", Partition: 2, Owner: "a"}},
		{"nobody's", commit("a", 3, first(3, 1)),
			Refusal{Code: CodeStaleMember, Reason: ReasonNotOwner, Group: "g", Partition: 3}},
		{"offset moved", commit("a", 3, next(2, 10, 13)),
			Refusal{Code: CodeStaleMember, Reason: ReasonOffsetMoved, Group: "g", Partition: 2, Owner: "a", Committed: 12, HasCommitted: true}},
		{"offset not expected at all", commit("a", 3, first(1, 11)),
			Refusal{Code: CodeStaleMember, Reason: ReasonOffsetMoved, Group: "g", Partition: 1, Owner: "a", Committed: 10, HasCommitted: true}},
		{"one of two is stale", commit("a", 1, next(1, 10, 11), next(2, 12, 13)),
			Refusal{Code: CodeStaleMember, Reason: ReasonGeneration, Group: "g", Partition: 2, Owner: "a", Need: 1, Have: 3}},
		{"no member, owned", commit("", 0, first(1, 11)),
			Refusal{Code: CodeStaleMember, Reason: ReasonNotOwner, Group: "g", Partition: 1, Owner: "a"}},
		{"no member, nobody's", commit("", 0, first(3, 11)), Refusal{}},
		{"no member, expected but not there", commit("", 0, next(3, 1, 11)),
			Refusal{Code: CodeStaleMember, Reason: ReasonOffsetMoved, Group: "g", Partition: 3}},
		{"a group that is not there", CommitOffsets{Commit: Commit{Group: "new", Member: "a", Entries: []Entry{first(1, 1)}}},
			Refusal{Code: CodeStaleMember, Reason: ReasonNotOwner, Group: "new", Partition: 1}},
		{"unknown partition", commit("a", 3, first(101, 1)), Refusal{Code: CodeUnknownPartition, Group: "g", Partition: 101}},
		{"twice", commit("a", 3, next(1, 10, 11), next(1, 10, 12)), Refusal{Code: CodeDuplicatePartition, Group: "g", Partition: 1}},
		{"metadata", commit("a", 3, Entry{Partition: 1, Metadata: strings.Repeat("x", 4097)}),
			Refusal{Code: CodeMetadataTooLarge, Group: "g", Partition: 1, Need: 4097, Have: 4096}},
		{"no group", CommitOffsets{}, Refusal{Code: CodeInvalidGroup}},
		{"member too long", commit(strings.Repeat("x", 250), 0), Refusal{Code: CodeInvalidMember, Group: "g"}},
		{"too many", commit("a", 3, make([]Entry, MaxPartitions+1)...),
			Refusal{Code: CodeLimitExceeded, Group: "g", Need: MaxPartitions + 1, Have: MaxPartitions}},
		{"nothing", commit("a", 3), Refusal{}},
	}
	before := m.Snapshot()
	for _, tt := range tests {
		got := m.CheckCommits(cat, TxnRef{}, []Commit{tt.commit.Commit})
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		if !slices.Equal(before, m.Snapshot()) {
			t.Fatalf("%s: the check changed the state", tt.name)
		}
		clone := New()
		if err := clone.Restore(before); err != nil {
			t.Fatal(err)
		}
		if r := clone.Apply(cat, tt.commit); r.Refusal != tt.want {
			t.Errorf("%s: Apply says %+v, want %+v", tt.name, r.Refusal, tt.want)
		}
		check(t, clone)
	}
}

func TestCommitInTransaction(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, assign("a", 1))
	must(t, m, assign("b", 2))
	t1, t2 := TxnRef{7, 1, 1}, TxnRef{7, 1, 2}
	commits := []Commit{
		{Group: "g", Member: "a", Generation: 1, Entries: []Entry{{Partition: 1, Offset: 5, Metadata: "m"}}},
		{Group: "g", Member: "b", Generation: 2, Entries: []Entry{first(2, 6)}},
		{Group: "simple", Entries: []Entry{first(1, 9)}},
	}
	if r := m.CheckCommits(cat, t1, commits); !r.OK() {
		t.Fatal(r)
	}
	if !m.ApplyCommits(50, t1, commits) {
		t.Error("nothing moved")
	}
	check(t, m)
	want := []PartitionOffset{
		{1, true, Offset{Next: 5, Metadata: "m", CommittedAt: 50, Member: "a", Txn: t1}},
		{2, true, Offset{Next: 6, CommittedAt: 50, Member: "b", Txn: t1}},
	}
	if got := m.Offsets("g", nil); !reflect.DeepEqual(got, want) {
		t.Errorf("offsets %+v, want %+v", got, want)
	}
	// The same records in another transaction: the offsets moved already.
	if r := m.CheckCommits(cat, t2, commits[:1]); r.Reason != ReasonOffsetMoved {
		t.Errorf("records consumed twice: %+v", r)
	}
	// Nor does a plain commit hide what a transaction did, or the reverse.
	if r := m.CheckCommits(cat, TxnRef{}, commits[:1]); r.Reason != ReasonOffsetMoved {
		t.Errorf("plain commit after a transaction's: %+v", r)
	}
	must(t, m, commit("a", 1, next(1, 5, 6)))
	if r := m.CheckCommits(cat, t2, []Commit{commit("a", 1, next(1, 5, 6)).Commit}); r.Reason != ReasonOffsetMoved {
		t.Errorf("transaction after a plain commit: %+v", r)
	}
	twice := []Commit{commit("a", 1, next(1, 6, 7)).Commit, commit("a", 1, next(1, 6, 8)).Commit}
	if r := m.CheckCommits(cat, t2, twice); r.Code != CodeDuplicatePartition {
		t.Errorf("a partition in two commits of a group: %+v", r)
	}
	if r := m.CheckCommits(cat, t2, make([]Commit, MaxCommits+1)); r.Code != CodeLimitExceeded {
		t.Errorf("too many commits: %+v", r)
	}
	if m.ApplyCommits(60, t2, []Commit{{Group: "empty"}}) || m.Has("empty") {
		t.Error("a commit of nothing made a group")
	}
}

// TestRepeatedPlainCommit: the answer to a commit was lost.
func TestRepeatedPlainCommit(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, assign("a", 1))
	must(t, m, commit("a", 1, first(1, 10)))
	must(t, m, commit("a", 1, first(1, 10)))
	must(t, m, commit("a", 1, next(1, 10, 20)))
	must(t, m, commit("a", 1, next(1, 10, 20)))
	if r := refused(t, m, commit("a", 1, Entry{Partition: 1, Offset: 20, Expected: 10, HasExpected: true, Metadata: "other"}), CodeStaleMember); r.Reason != ReasonOffsetMoved {
		t.Errorf("not the same commit: %+v", r)
	}
	// Without a member there is nobody who could repeat.
	must(t, m, commit("", 0, first(2, 10)))
	must(t, m, commit("", 0, next(2, 10, 20)))
	refused(t, m, commit("", 0, next(2, 10, 20)), CodeStaleMember)
	must(t, m, commit("", 0, first(2, 20)))
}

// TestAdministratorsResetIsNoticed: a forced reset under a member makes that
// member's next commit stale.
func TestAdministratorsResetIsNoticed(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, assign("a", 1))
	must(t, m, commit("a", 1, first(1, 10)))
	reset := ResetOffsets{At: 5, Group: "g", Entries: []Entry{{Partition: 1, Offset: 3, Metadata: "why"}}}
	if r := refused(t, m, reset, CodePartitionOwned); r.Owner != "a" || r.Partition != 1 {
		t.Errorf("refusal %+v", r.Refusal)
	}
	reset.Force = true
	must(t, m, reset)
	if r := refused(t, m, commit("a", 1, next(1, 10, 20)), CodeStaleMember); r.Reason != ReasonOffsetMoved || r.Committed != 3 {
		t.Errorf("refusal %+v", r.Refusal)
	}
	if o := m.Offsets("g", []uint64{1})[0].Offset; o != (Offset{Next: 3, Metadata: "why", CommittedAt: 5}) {
		t.Errorf("offset %+v", o)
	}
	must(t, m, ResetOffsets{Group: "made", Entries: []Entry{first(4, 4)}})
	refused(t, m, ResetOffsets{Group: "made", Entries: []Entry{first(4, 4), first(4, 5)}}, CodeDuplicatePartition)
	refused(t, m, ResetOffsets{Group: "made", Entries: []Entry{first(104, 4)}}, CodeUnknownPartition)
	refused(t, m, ResetOffsets{Entries: []Entry{first(1, 4)}}, CodeInvalidGroup)
	refused(t, m, ResetOffsets{Group: "made", Entries: make([]Entry, MaxPartitions+1)}, CodeLimitExceeded)
}

func TestLeaveAndDelete(t *testing.T) {
	t.Parallel()
	m := New()
	refused(t, m, LeaveGroup{Group: "g", Member: "a"}, CodeUnknownGroup)
	refused(t, m, DeleteGroup{Group: "g"}, CodeUnknownGroup)
	refused(t, m, DeleteOffsets{Group: "g"}, CodeUnknownGroup)
	must(t, m, assign("a", 1, 2))
	must(t, m, commit("a", 1, first(1, 10), first(2, 10)))
	refused(t, m, LeaveGroup{Group: "g", Member: "b"}, CodeUnknownMember)
	if r := refused(t, m, DeleteGroup{Group: "g"}, CodeGroupNotEmpty); r.Have != 1 {
		t.Errorf("members %d", r.Have)
	}
	refused(t, m, DeleteOffsets{Group: "g", Partitions: []uint64{1}}, CodePartitionOwned)
	refused(t, m, DeleteOffsets{Group: "g", Partitions: make([]uint64, MaxPartitions+1)}, CodeLimitExceeded)
	must(t, m, DeleteOffsets{Group: "g", Partitions: []uint64{1, 77}, Force: true})
	if r := must(t, m, LeaveGroup{Group: "g", Member: "a"}); r.Generation != 2 {
		t.Errorf("generation %d after leaving", r.Generation)
	}
	refused(t, m, commit("a", 1, next(2, 10, 11)), CodeStaleMember)
	if got := m.Offsets("g", nil); len(got) != 1 || got[0].Offset.Next != 10 {
		t.Errorf("offsets after leaving: %+v", got)
	}
	must(t, m, DeleteGroup{Group: "g"})
	if m.Has("g") || m.Count() != 0 || m.OffsetCount() != 0 {
		t.Error("something is left of the group")
	}
	// The group's second life: what comes late from the first is stale, though
	// the same member owns the same partition and nothing is committed.
	if r := must(t, m, assign("a", 1)); r.Generation != 3 {
		t.Errorf("generation %d in the second life", r.Generation)
	}
	if r := refused(t, m, commit("a", 1, first(1, 99)), CodeStaleMember); r.Reason != ReasonGeneration {
		t.Errorf("refusal %+v", r.Refusal)
	}
}

func TestRemovePartitions(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, assign("a", 1, 2))
	must(t, m, commit("a", 1, first(1, 10), first(2, 10)))
	must(t, m, ResetOffsets{Group: "other", Entries: []Entry{first(1, 1)}})
	must(t, m, RemovePartitions{Partitions: []uint64{1, 50}})
	d, _ := m.Describe("g")
	if d.Generation != 2 || len(d.Partitions) != 1 || d.Partitions[0].Partition != 2 || len(d.Members[0].Partitions) != 1 {
		t.Errorf("left %+v", d)
	}
	if len(m.Offsets("other", nil)) != 0 {
		t.Error("an offset of a removed partition is left")
	}
	must(t, m, commit("a", 1, next(2, 10, 11))) // what it kept is not disturbed
	if r := must(t, m, RemovePartitions{Partitions: []uint64{1}}); r.Changed {
		t.Error("removing nothing changed something")
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	m := New()
	for _, id := range []string{"c", "a", "d", "b"} {
		must(t, m, AssignPartitions{Group: id, Member: "m", Partitions: []uint64{1, 2}})
	}
	page, more := m.List("", 3)
	if len(page) != 3 || page[0].ID != "a" || page[2].ID != "c" || !more {
		t.Errorf("first page %+v, %v", page, more)
	}
	if page[0] != (Summary{ID: "a", Generation: 1, Members: 1, Owned: 2}) {
		t.Errorf("summary %+v", page[0])
	}
	page, more = m.List("c", 3)
	if len(page) != 1 || page[0].ID != "d" || more {
		t.Errorf("second page %+v, %v", page, more)
	}
	if page, more := m.List("bb", 1); page[0].ID != "c" || !more {
		t.Errorf("from between %+v, %v", page, more)
	}
}

// TestTimeNeverGoesBack: a new leader's clock may be behind.
func TestTimeNeverGoesBack(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, AssignPartitions{At: 100, Group: "g", Member: "a", Partitions: []uint64{1}})
	c := commit("a", 1, first(1, 1))
	c.At = 50
	must(t, m, c)
	if o := m.Offsets("g", []uint64{1})[0].Offset; o.CommittedAt != 100 {
		t.Errorf("committed at %d", o.CommittedAt)
	}
}

func TestCodesAndReasonsHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range Codes() {
		if c.String() == "" || seen[c.String()] {
			t.Errorf("code %d is called %q", c, c.String())
		}
		seen[c.String()] = true
	}
	for r := range reasonEnd {
		if r.String() == "" {
			t.Errorf("reason %d has no name", r)
		}
	}
	if codeEnd.String() != "CODE_17" || reasonEnd.String() != "REASON_4" {
		t.Errorf("unknown ones are called %v and %v", codeEnd, reasonEnd)
	}
}
