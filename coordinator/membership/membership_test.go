package membership

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/internal/golden"
)

func address(kind string, id uint64) string { return fmt.Sprintf("%s-%d:1", kind, id) }

func founded(t testing.TB, n uint64) *Membership {
	t.Helper()
	m := New()
	var c Found
	for id := n; id >= 1; id-- {
		c.Members = append(c.Members, Member{ID: id, ClientAddress: address("client", id), PeerAddress: address("peer", id)})
	}
	apply(t, m, c, CodeOK)
	return m
}

func add(id, replaces uint64) Add {
	return Add{ID: id, ClientAddress: address("client", id), PeerAddress: address("peer", id), Replaces: replaces}
}

func announce(id uint64, instance string, joining bool) Announce {
	return Announce{ID: id, Instance: instance, ClientAddress: address("client", id), PeerAddress: address("peer", id), Joining: joining}
}

// apply wants a code, and that a refusal changes nothing.
func apply(t testing.TB, m *Membership, cmd Command, want Code) Result {
	t.Helper()
	before := m.Snapshot()
	res := m.Apply(cmd)
	if res.Code != want {
		t.Fatalf("%T%+v: %v, want %v", cmd, cmd, res.Code, want)
	}
	if same := slices.Equal(before, m.Snapshot()); same == res.Changed || res.Changed && want != CodeOK {
		t.Fatalf("%T%+v: changed %v", cmd, cmd, res.Changed)
	}
	if err := m.Check(); err != nil {
		t.Fatalf("after %T%+v: %v", cmd, cmd, err)
	}
	return res
}

func ids(m *Membership) (out []uint64) {
	for _, x := range m.Members() {
		out = append(out, x.ID)
	}
	return out
}

func TestAdd(t *testing.T) {
	t.Parallel()
	m := founded(t, 3)
	apply(t, m, add(4, 0), CodeOK)
	if res := apply(t, m, add(4, 0), CodeOK); res.Changed {
		t.Error("the same request a second time adds something")
	}
	apply(t, m, add(5, 0), CodeChangePending)
	apply(t, m, Remove{1}, CodeChangePending)
	apply(t, m, announce(4, "a", false), CodeOtherInstance)
	apply(t, m, announce(4, "a", true), CodeOK)
	apply(t, m, announce(4, "b", true), CodeOtherInstance) // its disk was lost meanwhile
	apply(t, m, Settle{4}, CodeOK)
	apply(t, m, Settle{4}, CodeOK)
	apply(t, m, announce(4, "b", true), CodeOtherInstance)
	apply(t, m, announce(4, "a", true), CodeOK) // its answer was lost
	if x, _ := m.Member(4); !x.Voter || x.Instance != "a" {
		t.Errorf("%+v", x)
	}
	if _, changing := m.Changing(); changing {
		t.Error("still changing")
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	m := founded(t, 3)
	// On the same machine: with the addresses of the one that is replaced.
	c := add(4, 2)
	c.ClientAddress, c.PeerAddress = address("client", 2), address("peer", 2)
	apply(t, m, c, CodeOK)
	a := announce(4, "a", true)
	a.ClientAddress, a.PeerAddress = c.ClientAddress, c.PeerAddress
	apply(t, m, a, CodeOK)
	apply(t, m, announce(2, "two", false), CodeOK) // it lives after all
	apply(t, m, Settle{4}, CodeOK)
	if got := ids(m); !slices.Equal(got, []uint64{1, 3, 4}) {
		t.Errorf("members %v", got)
	}
	apply(t, m, announce(2, "two", false), CodeRemoved)
	apply(t, m, add(2, 0), CodeIDUsed)
	apply(t, m, Remove{2}, CodeRemoved)
	apply(t, m, Remove{5}, CodeUnknownMember)
	if !m.Removed(2) || m.Removed(3) || m.Removed(5) {
		t.Error("who was removed")
	}
}

// TestReplacementTakenBack: until it has happened the old member stays, and after
// that it is gone.
func TestReplacementTakenBack(t *testing.T) {
	t.Parallel()
	for _, happened := range []bool{false, true} {
		m := founded(t, 3)
		apply(t, m, add(4, 2), CodeOK)
		apply(t, m, Remove{4}, CodeOK)
		apply(t, m, Keep{4}, CodeNotVoter)
		want := []uint64{1, 2, 3}
		if happened {
			apply(t, m, Settle{4}, CodeOK)
			want = []uint64{1, 3}
		}
		apply(t, m, Forget{4}, CodeOK)
		if got := ids(m); !slices.Equal(got, want) {
			t.Errorf("members %v, want %v", got, want)
		}
	}
}

// TestOnlyVoterStays: the only member of all is replaced, and that was called off too
// late.
func TestOnlyVoterStays(t *testing.T) {
	t.Parallel()
	m := founded(t, 1)
	apply(t, m, add(4, 1), CodeOK)
	apply(t, m, Remove{4}, CodeOK)
	if x := apply(t, m, Settle{4}, CodeOK).Member; x.Leaving || !x.Voter {
		t.Errorf("%+v", x)
	}
	apply(t, m, Forget{4}, CodeNotVoter)
	if got := ids(m); !slices.Equal(got, []uint64{4}) {
		t.Errorf("members %v", got)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	m := founded(t, 2)
	apply(t, m, Forget{2}, CodeNotVoter)
	apply(t, m, Remove{2}, CodeOK)
	apply(t, m, Remove{2}, CodeOK)
	apply(t, m, Remove{1}, CodeChangePending)
	apply(t, m, Keep{2}, CodeOK)
	apply(t, m, Remove{1}, CodeOK)
	apply(t, m, Forget{1}, CodeOK)
	apply(t, m, Remove{2}, CodeLastVoter)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	m := New()
	for _, cmd := range []Command{add(4, 0), announce(1, "a", false), Settle{1}, Remove{1}, Keep{1}, Forget{1}} {
		apply(t, m, cmd, CodeNotFounded)
	}
	for _, c := range []Found{
		{}, {[]Member{{}}}, {[]Member{{ID: 1}, {ID: 1}}}, {make([]Member, MaxMembers+1)},
		{[]Member{{ID: 1, PeerAddress: strings.Repeat("x", MaxAddressBytes+1)}}},
	} {
		apply(t, m, c, CodeInvalidMember)
	}
	apply(t, m, nil, CodeInvalidMember)
	m = founded(t, MaxMembers)
	if apply(t, m, Found{[]Member{{ID: 99}}}, CodeOK).Changed {
		t.Error("founded twice")
	}
	apply(t, m, add(100, 0), CodeTooManyMembers)
	apply(t, m, Add{ID: 100, ClientAddress: "a", Replaces: 1}, CodeInvalidMember)
	apply(t, m, Add{ID: 100, ClientAddress: "a", PeerAddress: strings.Repeat("x", MaxAddressBytes+1), Replaces: 1}, CodeInvalidMember)
	apply(t, m, Add{ID: 100, ClientAddress: "a", PeerAddress: address("client", 2), Replaces: 1}, CodeAddressUsed)
	apply(t, m, add(9+MaxIDStep+1, 1), CodeIDTooHigh)
	apply(t, m, add(100, 50), CodeUnknownMember)
	apply(t, m, add(100, 9), CodeOK)
	apply(t, m, announce(9, "a", true), CodeOtherInstance)
	apply(t, m, announce(9, "", false), CodeInvalidMember)
	taken := announce(9, "a", false)
	taken.PeerAddress = address("peer", 8)
	apply(t, m, taken, CodeAddressUsed)
	apply(t, m, announce(9, "a", false), CodeOK)
}

// TestRandomCommands: the invariants hold after any commands, and a restored state
// goes on as the first.
func TestRandomCommands(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	seen := map[Code]int{}
	for range 300 {
		m, twin := founded(t, 1+rng.Uint64N(4)), New()
		used := map[uint64]string{} // instance, of all that ever were
		for range 100 {
			id := 1 + rng.Uint64N(12)
			var cmd Command
			switch rng.IntN(10) {
			case 0, 1:
				cmd = add(m.LastID()+rng.Uint64N(2), id)
				if rng.IntN(2) == 0 {
					cmd = add(m.LastID()+rng.Uint64N(2), 0)
				}
			case 2, 3:
				cmd = announce(id, fmt.Sprint(rng.IntN(2)), rng.IntN(2) == 0)
			case 4, 5:
				cmd = Settle{id}
			case 6:
				cmd = Remove{id}
			case 7:
				cmd = Keep{id}
			case 8:
				cmd = Raise{rng.Uint32N(4)}
			default:
				cmd = Forget{id}
			}
			if err := twin.Restore(m.Snapshot()); err != nil {
				t.Fatal(err)
			}
			decoded, err := DecodeCommand(AppendCommand(nil, cmd))
			if err != nil {
				t.Fatal(err)
			}
			res := m.Apply(cmd)
			if again := twin.Apply(decoded); again != res || !slices.Equal(twin.Snapshot(), m.Snapshot()) {
				t.Fatalf("%T%+v: %+v, and %+v of the restored state", cmd, cmd, res, again)
			}
			if err := m.Check(); err != nil {
				t.Fatalf("after %T%+v: %v", cmd, cmd, err)
			}
			seen[res.Code]++
			for _, x := range m.Members() {
				if was := used[x.ID]; was != "" && was != x.Instance {
					t.Fatalf("member %d had instance %q and has %q", x.ID, was, x.Instance)
				}
				used[x.ID] = x.Instance
			}
		}
	}
	for code := CodeOK; code <= CodeNotVoter; code++ {
		if seen[code] == 0 && code != CodeNotFounded && code != CodeInvalidMember && code != CodeAddressUsed && code != CodeTooManyMembers {
			t.Errorf("%v never came", code)
		}
	}
}

func everyCommand() []Command {
	return []Command{
		Found{[]Member{{ID: 1, ClientAddress: "c", PeerAddress: "p"}, {ID: 300}}},
		Add{ID: 4, ClientAddress: "c", PeerAddress: "p", Replaces: 300},
		Announce{ID: 4, Instance: "i", ClientAddress: "c", PeerAddress: "p", Joining: true},
		Settle{4}, Remove{4}, Keep{4}, Forget{300}, Raise{2},
	}
}

func TestCommandGolden(t *testing.T) {
	t.Parallel()
	var samples []golden.Sample
	for _, cmd := range everyCommand() {
		name := strings.TrimPrefix(reflect.TypeOf(cmd).String(), "membership.")
		samples = append(samples, golden.Sample{Name: name, Bytes: AppendCommand(nil, cmd)})
	}
	golden.Check(t, "membership-command", commandVersion, samples)
	for i, s := range golden.Read(t, "membership-command", 1) {
		got, err := DecodeCommand(s.Bytes)
		if err != nil || !reflect.DeepEqual(got, everyCommand()[i]) {
			t.Errorf("%s of version 1 is decoded as %+v, %v", s.Name, got, err)
		}
		for n := range s.Bytes {
			if _, err := DecodeCommand(s.Bytes[:n]); err == nil {
				t.Errorf("%s cut to %d bytes is decoded", s.Name, n)
			}
		}
		if _, err := DecodeCommand(append(s.Bytes, 0)); !errors.Is(err, codec.ErrTrailing) {
			t.Errorf("%s with a byte too many: %v", s.Name, err)
		}
	}
	for _, b := range [][]byte{{2, 1}, {1, 99, 0}} {
		if _, err := DecodeCommand(b); !errors.Is(err, codec.ErrVersion) {
			t.Errorf("%v: %v", b, err)
		}
	}
	if _, err := DecodeCommand(make([]byte, MaxCommandBytes+1)); !errors.Is(err, codec.ErrTooLong) {
		t.Errorf("length: %v", err)
	}
}

func TestSnapshotGolden(t *testing.T) {
	t.Parallel()
	m := founded(t, 3)
	apply(t, m, announce(1, "one", false), CodeOK)
	apply(t, m, add(300, 2), CodeOK)
	apply(t, m, announce(300, "new", true), CodeOK)
	// Of the first level it is of the first version: an older program may get it.
	golden.Check(t, "membership-snapshot", 1, []golden.Sample{
		{Name: "everything", Bytes: m.Snapshot()}, {Name: "nothing", Bytes: New().Snapshot()},
	})
	apply(t, m, Raise{2}, CodeOK)
	golden.Check(t, "membership-snapshot", snapshotVersion, []golden.Sample{{Name: "everything", Bytes: m.Snapshot()}})
	for _, s := range slices.Concat(golden.Read(t, "membership-snapshot", 1), golden.Read(t, "membership-snapshot", 2)) {
		r := New()
		if err := r.Restore(s.Bytes); err != nil || !slices.Equal(r.Snapshot(), s.Bytes) {
			t.Errorf("%s: %v", s.Name, err)
		}
		for n := range s.Bytes {
			if New().Restore(s.Bytes[:n]) == nil {
				t.Errorf("%s cut to %d bytes is restored", s.Name, n)
			}
		}
	}
	bad := m.Snapshot()
	bad[2] = 0 // version 0: not founded
	if err := New().Restore(bad); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a state that cannot be: %v", err)
	}
}

func TestLevel(t *testing.T) {
	t.Parallel()
	apply(t, New(), Raise{2}, CodeNotFounded)
	m := founded(t, 3)
	before := m.Version()
	for _, c := range []struct {
		raise Raise
		code  Code
		want  uint32
	}{
		{Raise{0}, CodeOK, 1},
		{Raise{1}, CodeOK, 1},
		{Raise{3}, CodeOK, 3},
		{Raise{2}, CodeOK, 3}, // a late one
		{Raise{MaxLevel + 1}, CodeInvalidLevel, 3},
	} {
		apply(t, m, c.raise, c.code)
		if m.Level() != c.want {
			t.Errorf("%+v: level %d, want %d", c.raise, m.Level(), c.want)
		}
	}
	if m.Version() != before+1 {
		t.Errorf("%d changes, want 1", m.Version()-before)
	}
	for _, level := range []byte{0, 1} {
		bad := m.Snapshot()
		bad[1] = level
		if err := New().Restore(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("level %d in a snapshot that has one: %v", level, err)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, cmd := range everyCommand() {
		f.Add(AppendCommand(nil, cmd))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, err := DecodeCommand(b)
		if err != nil {
			return
		}
		m := founded(t, 3)
		m.Apply(cmd)
		if err := m.Check(); err != nil {
			t.Errorf("after %+v: %v", cmd, err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add(founded(f, 3).Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := New()
		if m.Restore(b) != nil {
			return
		}
		again := New()
		if err := again.Restore(m.Snapshot()); err != nil || !slices.Equal(again.Snapshot(), m.Snapshot()) {
			t.Errorf("what was restored of %x is not what is restored of that: %v", b, err)
		}
	})
}
