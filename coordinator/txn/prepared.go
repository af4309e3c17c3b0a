package txn

import (
	"slices"

	"github.com/oncelog/oncelog/api/codec"
)

// preparedTxn is a transaction of which everything that a commit takes has been
// checked and is kept. It has no deadline. Its epoch may be older than the current
// one: whoever takes the id over with KeepPrepared, or fences it, leaves it as it is.
type preparedTxn struct {
	producer              *producer
	ref                   Ref
	startedAt, preparedAt Millis
	// participants are those of the commit, ascending by shard, with their progress.
	participants []Participant
}

func (p *producer) isPrepared(r Ref) bool { return p.prepared != nil && p.prepared.ref == r }

// has tells whether the shard takes part.
func (t *preparedTxn) has(shard uint64) bool {
	_, ok := findParticipant(t.participants, shard)
	return ok
}

// describe returns what people see, in memory of its own; nil for nil.
func (t *preparedTxn) describe() *PreparedTransaction {
	if t == nil {
		return nil
	}
	d := &PreparedTransaction{
		Ref: t.ref, StartedAt: t.startedAt, PreparedAt: t.preparedAt, Participants: slices.Clone(t.participants),
	}
	for i := range d.Participants {
		d.Participants[i].Progress = slices.Clone(d.Participants[i].Progress)
	}
	return d
}

// removeShard goes on without a shard that no longer exists.
func (t *preparedTxn) removeShard(shard uint64) {
	if i, ok := findParticipant(t.participants, shard); ok {
		t.participants = slices.Delete(t.participants, i, i+1)
	}
}

// removePartitions goes on without partitions that no longer exist. Their shard stays
// a participant: it still has the transaction open.
func (t *preparedTxn) removePartitions(shard uint64, isGone func(uint64) bool) {
	if i, ok := findParticipant(t.participants, shard); ok {
		t.participants[i].Progress = slices.DeleteFunc(t.participants[i].Progress, func(pr Progress) bool {
			return isGone(pr.Partition)
		})
	}
}

// appendPrepared appends whether there is one, and which.
func appendPrepared(b []byte, t *preparedTxn) []byte {
	b = codec.AppendBool(b, t != nil)
	if t == nil {
		return b
	}
	b = codec.AppendUvarint(b, uint64(t.ref.Epoch))
	b = codec.AppendUvarint(b, t.ref.Number)
	b = codec.AppendVarint(b, t.startedAt)
	b = codec.AppendVarint(b, t.preparedAt)
	return appendParticipants(b, t.participants)
}

func readPrepared(r *codec.Reader, p *producer) *preparedTxn {
	return &preparedTxn{
		producer: p, ref: p.ref(readUint32(r), r.Uvarint()),
		startedAt: readTime(r), preparedAt: readTime(r),
		participants: readParticipants(r),
	}
}

func (m *Machine) checkPrepared(p *producer, r *rules) {
	t := p.prepared
	r.must(t.producer == p && t.ref.ProducerID == p.id, "prepared transaction knows its producer")
	r.must(p.open == nil, "nothing is open beside a prepared transaction")
	r.must(t.ref.Number > 0 && t.ref.Epoch <= p.epoch, "prepared transaction belongs to an epoch handed out")
	r.must(p.latest.number == 0 || p.refOf(p.latest).Less(t.ref), "prepared transaction is above the latest decision (I5)")
	r.must(t.startedAt <= t.preparedAt && t.preparedAt <= m.now, "a transaction was prepared after its start and not in the future")
	r.must(len(t.participants) <= m.cfg.MaxParticipants, "prepared participants are within the limit")
	partitions := 0
	for i, pt := range t.participants {
		r.must(i == 0 || t.participants[i-1].Shard < pt.Shard, "prepared participants ascend")
		partitions += len(pt.Progress)
		for j, pr := range pt.Progress {
			r.must(j == 0 || pt.Progress[j-1].Partition < pr.Partition, "prepared progress ascends")
		}
	}
	r.must(partitions <= m.cfg.MaxPartitionsPerTxn, "prepared partitions are within the limit")
}
