package group

import (
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/oncelog/oncelog/api/codec"
)

// A prepared transaction has positions that it is to move once another system has
// given its word. Until then they are held: the position is neither the old one nor
// the new one, so nobody is told it, and nothing else moves it. Otherwise the promise
// to commit could not be kept: somebody reads from the old position and commits, and
// the records below the new one are consumed by two transactions. (Kafka: pending
// offsets, and UNSTABLE_OFFSET_COMMIT.)

// heldOffset is what a prepared transaction is to make the offset of a partition.
type heldOffset struct {
	next     uint64
	metadata string
	member   string
	txn      TxnRef
}

// HoldCommits keeps the commits for a transaction that is prepared. The caller got OK
// from [Machine.CheckCommits] for the same arguments in the same command.
func (m *Machine) HoldCommits(at int64, by TxnRef, commits []Commit) {
	m.advance(at)
	for i := range commits {
		c := &commits[i]
		if len(c.Entries) == 0 {
			continue
		}
		g := m.ensure(c.Group)
		if g.held == nil {
			g.held = map[uint64]heldOffset{}
		}
		for _, e := range c.Entries {
			g.held[e.Partition] = heldOffset{next: e.Offset, metadata: e.Metadata, member: c.Member, txn: by}
			m.held++
		}
		m.noteHolder(by, c.Group)
	}
}

// noteHolder notes that a transaction holds offsets of a group.
func (m *Machine) noteHolder(by TxnRef, id string) {
	if !slices.Contains(m.heldBy[by], id) {
		m.heldBy[by] = append(m.heldBy[by], id)
	}
}

// SettleHeld moves the offsets that are held for a transaction, or lets go of them,
// and reports whether there were any. at is the time of the command that decides it.
func (m *Machine) SettleHeld(at int64, by TxnRef, commit bool) (found bool) {
	m.advance(at)
	for _, id := range m.heldBy[by] {
		g := m.groups[id]
		for _, p := range slices.Sorted(maps.Keys(g.held)) {
			h := g.held[p]
			if h.txn != by {
				continue
			}
			found = true
			m.letGo(g, p)
			if commit {
				m.setOffset(g, p, Offset{Next: h.next, Metadata: h.metadata, CommittedAt: m.now, Member: h.member, Txn: by})
			}
		}
	}
	delete(m.heldBy, by)
	return found
}

// letGo forgets what is held of a partition, and reports whether there was something.
func (m *Machine) letGo(g *group, partition uint64) bool {
	if _, ok := g.held[partition]; !ok {
		return false
	}
	delete(g.held, partition)
	m.held--
	return true
}

// CheckHeld refuses with CodeOffsetHeld if an offset of the partitions is held, or, when
// none are given, any of the group.
func (m *Machine) CheckHeld(id string, partitions []uint64) Refusal {
	g := m.groups[id]
	if g == nil || len(g.held) == 0 {
		return Refusal{}
	}
	if len(partitions) == 0 {
		return heldRefusal(id, slices.Sorted(maps.Keys(g.held))[0])
	}
	for _, p := range partitions {
		if _, ok := g.held[p]; ok {
			return heldRefusal(id, p)
		}
	}
	return Refusal{}
}

func heldRefusal(id string, partition uint64) Refusal {
	return Refusal{Code: CodeOffsetHeld, Group: id, Partition: partition}
}

// HeldCount returns the number of offsets that are held, of all groups.
func (m *Machine) HeldCount() int { return m.held }

// Holders returns the transactions that hold offsets, in no particular order.
func (m *Machine) Holders() []TxnRef {
	// the caller looks at each by itself: the order does not matter
	return slices.Collect(maps.Keys(m.heldBy))
}

// appendHeld appends what is held in a group.
func (g *group) appendHeld(b []byte) []byte {
	b = codec.AppendUvarint(b, uint64(len(g.held)))
	for _, p := range slices.Sorted(maps.Keys(g.held)) {
		h := g.held[p]
		b = codec.AppendUvarint(b, p)
		b = codec.AppendUvarint(b, h.next)
		b = codec.AppendString(b, h.metadata)
		b = codec.AppendString(b, h.member)
		b = codec.AppendUvarint(b, h.txn.ProducerID)
		b = codec.AppendUvarint(b, uint64(h.txn.Epoch))
		b = codec.AppendUvarint(b, h.txn.Number)
	}
	return b
}

func (g *group) readHeld(r *codec.Reader) {
	var last uint64
	for i := range r.Count(math.MaxInt32) {
		p := r.Uvarint()
		if i > 0 && p <= last {
			r.Fail(ErrCorrupt)
		}
		last = p
		h := heldOffset{
			next: r.Uvarint(), metadata: r.String(MaxMetadataBytes), member: r.String(MaxMemberIDBytes),
			txn: TxnRef{ProducerID: r.Uvarint(), Epoch: readUint32(r), Number: r.Uvarint()},
		}
		if r.Err() != nil {
			return
		}
		if g.held == nil {
			g.held = map[uint64]heldOffset{}
		}
		g.held[p] = h
	}
}

// checkHeld verifies what is held, and the index of it.
func (m *Machine) checkHeld() error {
	held := 0
	for _, id := range m.ids {
		// each by itself: the order does not matter
		for _, h := range m.groups[id].held {
			held++
			if h.txn.Number == 0 || len(h.metadata) > MaxMetadataBytes || len(h.member) > MaxMemberIDBytes {
				return errors.New("group: held offset breaks its limits")
			}
			if !slices.Contains(m.heldBy[h.txn], id) {
				return errors.New("group: held offset is not found by its transaction")
			}
		}
	}
	if held != m.held {
		return errors.New("group: count of held offsets is wrong")
	}
	return nil
}
