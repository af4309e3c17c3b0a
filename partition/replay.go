package partition

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// Offline is a shard's state machine without a node: for simulators, and for
// whoever has a log that must be explained.
type Offline struct {
	m        *machine
	rows     raftstore.RowWriter
	answered func(answer string)
}

// NewOffline returns the state before the first entry. cfg is what the shard has
// started with, rows gets the index of what is stored. answered, which may be nil,
// is told what every append, decision and list of partitions was answered.
func NewOffline(cfg pstate.Config, rows raftstore.RowWriter, answered func(answer string)) *Offline {
	if answered == nil {
		answered = func(string) {}
	}
	return &Offline{m: newMachine(cfg, newWaiters()), rows: rows, answered: answered}
}

// Apply carries out the next entry. An error says that it cannot be read.
func (o *Offline) Apply(e raftstore.Entry) error {
	result, err := o.m.apply(e, o.rows)
	if err != nil {
		return err
	}
	tell(result, o.answered)
	if told, err := pstate.DecodeEnlistAnswers(e.Data); err == nil {
		for _, a := range told.List {
			o.answered("told " + a.Verdict.String())
		}
	}
	return nil
}

// Snapshot returns the state as a node would write it after as many entries.
func (o *Offline) Snapshot() ([]byte, error) { return o.m.Snapshot() }

// CheckSnapshot reads a snapshot of a shard's state and returns the first
// invariant that it breaks. Answers to different questions about one state agree,
// too.
func CheckSnapshot(data []byte) error {
	m := newMachine(pstate.Config{}, newWaiters())
	if err := m.Restore(1, data); err != nil {
		return err
	}
	again, err := m.Snapshot()
	if err == nil && !bytes.Equal(again, data) {
		err = errors.New("partition: a snapshot of what was restored is another one")
	}
	return errors.Join(err, agree(m.state))
}

// agree asks in different ways for the same.
func agree(st *pstate.State) error {
	open := 0
	for t := range st.Open() {
		open++
		if same, outcome, _, ok := st.Find(t.Ref); !ok || outcome != pstate.OutcomeNone || same.OpenedAt != t.OpenedAt {
			return fmt.Errorf("partition: transaction %v is listed as open, and found as %v", t.Ref, outcome)
		}
	}
	stats := st.Stats()
	if open != st.OpenCount() || open != stats.OpenTxns || stats.Partitions != len(st.Partitions()) {
		return fmt.Errorf("partition: %d transactions are listed as open, of %d", open, st.OpenCount())
	}
	for _, p := range st.Partitions() {
		if err := agreePartition(st, p); err != nil {
			return err
		}
	}
	if _, known := st.Partition(0); known || st.LogStart(0) != 0 || st.AppliedEnd(0) != 0 || st.Aborted(0, 0, 1) != nil {
		return errors.New("partition: there is a partition 0")
	}
	return nil
}

// agreePartition compares what is said of one partition.
func agreePartition(st *pstate.State, p pstate.PartitionStatus) error {
	rows, _ := st.DescribeProducers(p.ID)
	open := 0
	for _, row := range rows {
		if row.State == pstate.ProducerOpen {
			open++
		}
	}
	blocker, blocked := st.Blocker(p.ID)
	switch {
	case open != p.OpenTxns || blocked != (open > 0):
		return fmt.Errorf("partition: %d transactions are open in partition %d, or %d", open, p.ID, p.OpenTxns)
	case blocked && pstate.End(blocker.FirstOffset) != p.Stable:
		return fmt.Errorf("partition: the stable end of partition %d is %d, and a transaction from %d on holds it", p.ID, p.Stable, blocker.FirstOffset)
	}
	for _, h := range st.Aborted(p.ID, 0, p.Applied) {
		if h.End > p.Applied || pstate.End(h.First) >= h.End {
			return fmt.Errorf("partition: %d to %d are hidden in partition %d, which ends at %d", h.First, h.End, p.ID, p.Applied)
		}
		if pstate.End(h.First) < p.Stable && h.MinSequence == 0 && st.CommittedPrefix(p.ID, h.Ref, h.First, 0, 1) != 0 {
			return fmt.Errorf("partition: record %d of partition %d is hidden, and shown", h.First, p.ID)
		}
	}
	return nil
}

// tell names what a command was answered.
func tell(result any, answered func(answer string)) {
	switch r := result.(type) {
	case []pstate.BatchResult:
		for _, b := range r {
			if answered("append " + b.Code.String()); b.Code == pstate.CodeTxnEnded {
				answered("append after " + b.Outcome.String() + " " + b.Reason.String())
			}
		}
	case []pstate.MarkerResult:
		for _, m := range r {
			answered("decision " + m.Code.String())
		}
	case []pstate.LogStartResult:
		for _, l := range r {
			if l.DroppedFrom < l.DroppedTo {
				answered("log start DROPPED")
			} else if l.Moved {
				answered("log start MOVED")
			}
		}
	case pstate.RelocateCode:
		answered("relocation " + r.String())
	case pstate.RewriteCode:
		answered("rewrite " + r.String())
	case pstate.SyncResult:
		answered("partitions " + r.Code.String())
	}
}
