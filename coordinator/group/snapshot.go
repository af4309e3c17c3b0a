package group

import (
	"maps"
	"math"
	"slices"

	"github.com/oncelog/oncelog/api/codec"
)

// snapshotVersion is the newest version of a snapshot, which is its first byte. A state
// in which nothing is held is written in version 1, which every program reads; see
// held.go for what version 2 has besides.
const snapshotVersion = 2

// plain is the version without.
const plain = 1

// Snapshot returns the state as bytes. Equal states give equal bytes.
func (m *Machine) Snapshot() []byte {
	version := byte(plain)
	if m.held > 0 {
		version = snapshotVersion
	}
	b := []byte{version}
	b = codec.AppendVarint(b, m.now)
	b = codec.AppendUvarint(b, m.floor)
	b = codec.AppendUvarint(b, uint64(len(m.ids)))
	for _, id := range m.ids {
		b = m.groups[id].appendTo(codec.AppendString(b, id))
		if version > plain {
			b = m.groups[id].appendHeld(b)
		}
	}
	return b
}

func (g *group) appendTo(b []byte) []byte {
	b = codec.AppendUvarint(b, g.generation)
	b = codec.AppendUvarint(b, uint64(len(g.members)))
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		mm := g.members[id]
		b = codec.AppendString(b, id)
		b = codec.AppendString(b, mm.clientID)
		b = codec.AppendString(b, mm.host)
		b = codec.AppendVarint(b, mm.joinedAt)
		b = codec.AppendUvarint(b, uint64(len(mm.partitions)))
		for _, p := range mm.partitions {
			b = codec.AppendUvarint(b, p)
			b = codec.AppendUvarint(b, g.owners[p].since)
		}
		b = mm.appendSubscription(b)
	}
	b = codec.AppendUvarint(b, uint64(len(g.target)))
	for _, p := range slices.Sorted(maps.Keys(g.target)) {
		b = codec.AppendUvarint(b, p)
		b = codec.AppendString(b, g.target[p])
	}
	b = codec.AppendUvarint(b, uint64(len(g.offsets)))
	for _, p := range slices.Sorted(maps.Keys(g.offsets)) {
		o := g.offsets[p]
		b = codec.AppendUvarint(b, p)
		b = codec.AppendUvarint(b, o.Next)
		b = codec.AppendString(b, o.Metadata)
		b = codec.AppendVarint(b, o.CommittedAt)
		b = codec.AppendString(b, o.Member)
		b = codec.AppendUvarint(b, o.Txn.ProducerID)
		b = codec.AppendUvarint(b, uint64(o.Txn.Epoch))
		b = codec.AppendUvarint(b, o.Txn.Number)
	}
	return b
}

func (mm *member) appendSubscription(b []byte) []byte {
	if mm.sub == nil {
		return codec.AppendBool(b, false)
	}
	b = codec.AppendBool(b, true)
	b = codec.AppendUvarint(b, mm.joined)
	b = codec.AppendUvarint(b, mm.asked)
	b = codec.AppendString(b, mm.sub.instance)
	b = codec.AppendString(b, mm.sub.replaced)
	b = appendTexts(b, mm.sub.topics)
	b = codec.AppendVarint(b, mm.sub.session)
	b = codec.AppendVarint(b, mm.sub.rebalance)
	return append(b, byte(mm.sub.assignor))
}

func (mm *member) readSubscription(r *codec.Reader) {
	if !r.Bool() {
		return
	}
	mm.joined, mm.asked = r.Uvarint(), r.Uvarint()
	mm.sub = &subscription{instance: r.String(MaxInstanceIDBytes), replaced: r.String(MaxMemberIDBytes)}
	for range r.Count(MaxTopics) {
		if r.Err() != nil {
			return
		}
		mm.sub.topics = append(mm.sub.topics, r.String(MaxTopicBytes))
	}
	mm.sub.session, mm.sub.rebalance, mm.sub.assignor = r.Varint(), r.Varint(), Assignor(r.Byte())
}

// Restore replaces the state by the one a snapshot holds. On an error the
// state is as before. The bytes are not referred to afterwards.
func (m *Machine) Restore(snapshot []byte) error {
	r := codec.NewReader(snapshot)
	version := r.Version("group snapshot", plain, snapshotVersion)
	n := New()
	n.now = r.Varint()
	n.floor = r.Uvarint()
	for range r.Count(MaxGroups) {
		id := r.String(MaxGroupIDBytes)
		if len(n.ids) > 0 && id <= n.ids[len(n.ids)-1] {
			r.Fail(ErrCorrupt) // a canonical snapshot is sorted
		}
		g := readGroup(r)
		if version > plain {
			g.readHeld(r)
		}
		if r.Err() != nil {
			break
		}
		n.ids = append(n.ids, id)
		n.groups[id] = g
		n.offsets += len(g.offsets)
		n.held += len(g.held)
		// each is only noted: the order does not matter
		for _, h := range g.held {
			n.noteHolder(h.txn, id)
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	if err := n.Check(); err != nil {
		return err
	}
	n.rebalances = m.rebalances + 1
	*m = *n
	return nil
}

func readGroup(r *codec.Reader) *group {
	g := &group{
		generation: r.Uvarint(),
		members:    map[string]member{},
		owners:     map[uint64]ownership{},
		offsets:    map[uint64]Offset{},
		target:     map[uint64]string{},
	}
	lastMember := ""
	for range r.Count(MaxMembers) {
		id := r.String(MaxMemberIDBytes)
		if id <= lastMember {
			r.Fail(ErrCorrupt)
		}
		lastMember = id
		g.members[id] = g.readMember(r, id)
	}
	g.readTarget(r)
	var last uint64
	for i := range r.Count(math.MaxInt32) {
		p := r.Uvarint()
		if i > 0 && p <= last {
			r.Fail(ErrCorrupt)
		}
		last = p
		o := Offset{
			Next: r.Uvarint(), Metadata: r.String(MaxMetadataBytes), CommittedAt: r.Varint(),
			Member: r.String(MaxMemberIDBytes),
			Txn:    TxnRef{ProducerID: r.Uvarint(), Epoch: readUint32(r), Number: r.Uvarint()},
		}
		if r.Err() != nil {
			break
		}
		g.offsets[p] = o
	}
	return g
}

func (g *group) readMember(r *codec.Reader, id string) member {
	mm := member{
		clientID: r.String(MaxClientIDBytes),
		host:     r.String(MaxHostBytes),
		joinedAt: r.Varint(),
	}
	for i := range r.Count(MaxOwned) {
		if r.Err() != nil {
			break
		}
		p, since := r.Uvarint(), r.Uvarint()
		if _, twice := g.owners[p]; twice || i > 0 && p <= mm.partitions[i-1] {
			r.Fail(ErrCorrupt)
		}
		mm.partitions = append(mm.partitions, p)
		g.owners[p] = ownership{member: id, since: since}
	}
	mm.readSubscription(r)
	return mm
}

func (g *group) readTarget(r *codec.Reader) {
	var last uint64
	for i := range r.Count(math.MaxInt32) {
		if r.Err() != nil {
			return
		}
		p := r.Uvarint()
		if i > 0 && p <= last {
			r.Fail(ErrCorrupt)
		}
		last = p
		g.target[p] = r.String(MaxMemberIDBytes)
	}
}

func readUint32(r *codec.Reader) uint32 {
	v := r.Uvarint()
	if v > math.MaxUint32 {
		r.Fail(ErrCorrupt)
		return 0
	}
	return uint32(v)
}
