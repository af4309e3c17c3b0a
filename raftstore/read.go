package raftstore

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"
)

// read waits for a linearizable read index.
type read struct {
	done func(index uint64, err error)
}

// readBatch is a set of reads that share one round of heartbeats.
type readBatch struct {
	ctx       string // unique for ever: a reused one could return an old index
	reads     []read
	index     uint64 // valid once confirmed
	confirmed bool
	age       int // ticks since the context was sent, or without a leader
	tries     int
}

// maxReadRounds bounds the read batches under way, so that under load reads
// gather into few rounds of heartbeats.
const maxReadRounds = 4

// canStartReads reports whether a batch of reads is waiting and may be sent.
// Raft drops reads while no leader is known. A leader that has not yet
// committed in its term must wait: in a group of one, raft would answer at
// once with a commit index that may lag behind what was acknowledged before a
// restart.
func (r *replica) canStartReads() bool {
	if len(r.reads) == 0 || len(r.batches) >= maxReadRounds {
		return false
	}
	st := r.rn.BasicStatus()
	return st.Lead != 0 && (st.RaftState != raft.StateLeader || r.ready())
}

// startReads sends the waiting reads as one batch.
func (r *replica) startReads() {
	b := readBatch{ctx: r.loop.readContext(), reads: r.reads}
	r.reads, r.readsAge = nil, 0
	r.batches = append(r.batches, b)
	r.rn.ReadIndex([]byte(b.ctx))
	r.loop.counters.ReadRounds.Add(1)
}

// expireReads repeats, under a new context, batches that got no answer, and
// gives up on reads after a few election timeouts; on those that have their
// index and wait for entries up to it, only while nobody leads who would send
// them.
func (r *replica) expireReads() {
	const maxTries = 6
	patience := r.loop.cfg.ElectionTicks / 2
	if len(r.reads) > 0 {
		if r.readsAge++; r.readsAge > maxTries*patience {
			r.refuseReads(r.reads)
			r.reads, r.readsAge = nil, 0
		}
	}
	kept := r.batches[:0]
	for _, b := range r.batches {
		b.age++
		if b.confirmed {
			if r.rn.BasicStatus().Lead != 0 {
				b.age = 0
			} else if b.age > maxTries*patience {
				r.refuseReads(b.reads)
				continue
			}
		} else if b.age > patience {
			if b.tries++; b.tries >= maxTries {
				r.refuseReads(b.reads)
				continue
			}
			b.age, b.ctx = 0, r.loop.readContext()
			r.rn.ReadIndex([]byte(b.ctx))
		}
		kept = append(kept, b)
	}
	clear(r.batches[len(kept):])
	r.batches = kept
}

func (r *replica) refuseReads(reads []read) {
	for _, q := range reads {
		q.done(0, r.notLeader())
	}
}

// hurryReads makes the next tick repeat what an earlier leader was asked.
func (r *replica) hurryReads() {
	for i := range r.batches {
		r.batches[i].age = r.loop.cfg.ElectionTicks
	}
}

// finishReads answers the batches whose index is confirmed and applied.
func (r *replica) finishReads() {
	for _, s := range r.rd.ReadStates {
		for i := range r.batches {
			if b := &r.batches[i]; b.ctx == string(s.RequestCtx) {
				b.index, b.confirmed = s.Index, true
			}
		}
	}
	kept := r.batches[:0]
	for _, b := range r.batches {
		if !b.confirmed || b.index > r.applied {
			kept = append(kept, b)
			continue
		}
		for _, q := range b.reads {
			r.loop.answerRead(q, b.index)
		}
	}
	clear(r.batches[len(kept):])
	r.batches = kept
}

// readContext makes a context that no read of any incarnation of any node had
// before.
func (l *loop) readContext() string {
	var b [24]byte
	l.readSeq++
	binary.BigEndian.PutUint64(b[0:], uint64(l.cfg.NodeID))
	binary.BigEndian.PutUint64(b[8:], l.incarnation)
	binary.BigEndian.PutUint64(b[16:], l.readSeq)
	return string(b[:])
}
