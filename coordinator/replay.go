package coordinator

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/oncelog/oncelog/api/level"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/raftstore"
)

// Offline is the coordinators' state machine without a coordinator: for simulators,
// and for whoever has a log that must be explained.
type Offline struct {
	r        *replica
	answered func(core, answer string)
	// decided is what was said of transactions once they were over.
	decided map[txn.Ref]txn.Status
}

// NewOffline returns the state before the first entry. rules are the cluster's.
// answered, which may be nil, is told what every command was answered, by core, and
// what became of the transactions that it named.
func NewOffline(rules txn.Config, answered func(core, answer string)) *Offline {
	if answered == nil {
		answered = func(string, string) {}
	}
	r := newReplica(txn.New(rules).Config(), &token.Keyring{}, level.Newest, newNotifier(), newNotifier())
	return &Offline{r: r, answered: answered, decided: map[txn.Ref]txn.Status{}}
}

// Apply carries out the next entry. An error is a breach of what holds between any
// two entries: a transaction went to a phase that does not follow the one it was
// in, or has another outcome than it had; or a partition of a group was given on
// before its owner had let go. One that wraps codec.ErrVersion is about an entry
// that a newer program wrote; it has changed nothing.
func (o *Offline) Apply(e raftstore.Entry) error {
	cmd := txnCommand(e.Data)
	refs := concerned(cmd)
	before := o.phases(refs)
	owners := o.owners()
	result := o.r.applyEntry(e)
	if err := tooNew(result); err != nil {
		return fmt.Errorf("coordinator: entry %d: %w", e.Index, err)
	}
	tell(result, o.answered)
	if err := o.handedOver(e.Data, owners); err != nil {
		return fmt.Errorf("coordinator: entry %d: %w", e.Index, err)
	}
	if acks, ok := cmd.(txn.MarkersApplied); ok {
		for _, a := range acks.Items {
			o.answered("txn", "acknowledged "+a.Answer.String())
		}
	}
	for i, after := range o.phases(refs) {
		if before[i] == after {
			continue
		}
		if o.answered("txn", "from "+before[i].String()+" to "+after.String()); !mayBecome(before[i], after) {
			return fmt.Errorf("coordinator: entry %d took transaction %v from %v to %v", e.Index, refs[i], before[i], after)
		}
	}
	for _, ref := range refs {
		if err := o.compare(ref); err != nil {
			return fmt.Errorf("coordinator: entry %d: %w", e.Index, err)
		}
	}
	return nil
}

// compare holds what is said of a transaction against what was said before.
func (o *Offline) compare(ref txn.Ref) error {
	status, was := o.r.txns.GetOutcome(ref).Status, o.decided[ref]
	o.answered("txn", "outcome "+status.String())
	if who, ok := o.r.txns.Lookup(ref.ProducerID); ok {
		d, _ := o.r.txns.Describe(who.TransactionalID)
		o.answered("txn", "state "+d.State.String())
	}
	switch {
	case status != txn.StatusCommitted && status != txn.StatusAborted:
		return nil
	case was != 0 && was != status:
		return fmt.Errorf("transaction %v is %v and was %v", ref, status, was)
	}
	o.decided[ref] = status
	return nil
}

// phases returns how far transactions have come.
func (o *Offline) phases(refs []txn.Ref) []txn.Phase {
	out := make([]txn.Phase, len(refs))
	for i, ref := range refs {
		out[i] = o.r.txns.Phase(ref)
	}
	return out
}

// Snapshot returns the state as a coordinator would write it after as many entries.
func (o *Offline) Snapshot() ([]byte, error) { return o.r.Snapshot() }

// CheckSnapshot reads a snapshot of the coordinators' state and returns the first
// invariant that it breaks: of a core, or between them. rules are the cluster's.
func CheckSnapshot(rules txn.Config, data []byte) error {
	r := NewOffline(rules, nil).r
	if err := r.Restore(0, data); err != nil {
		return err
	}
	again, err := r.Snapshot()
	if err == nil && len(data) > 0 && !bytes.Equal(again, data) {
		err = errors.New("coordinator: a snapshot of what was restored is another one")
	}
	return errors.Join(err, r.check())
}

// mayBecome reports whether one command may take a transaction from one phase to
// another. Acknowledgements of many transactions come in one command: those that
// follow may push one out of memory again.
func mayBecome(before, after txn.Phase) bool {
	if before == txn.PhaseCompleting && after == txn.PhaseOver {
		return before.CanBecome(txn.PhaseComplete) && txn.PhaseComplete.CanBecome(after)
	}
	return before == after || before.CanBecome(after)
}

// txnCommand reads an entry for the core of transactions; nil: it is none.
func txnCommand(entry []byte) txn.Command {
	if len(entry) == 0 || entry[0] != entryTxn {
		return nil
	}
	_, cmd, err := txn.DecodeCommand(entry[1:])
	if err != nil {
		return nil
	}
	return cmd
}

// concerned lists the transactions that a command names.
func concerned(cmd txn.Command) (refs []txn.Ref) {
	switch c := cmd.(type) {
	case txn.EndTransaction:
		refs = append(refs, c.Ref)
	case txn.PrepareTransaction:
		refs = append(refs, c.Ref)
	case txn.CompletePrepared:
		refs = append(refs, c.Ref)
	case txn.AbortTransaction:
		refs = append(refs, c.Ref)
	case txn.Expire:
		refs = c.Refs
	case txn.Enlist:
		for _, item := range c.Items {
			refs = append(refs, item.Ref)
		}
	case txn.MarkersApplied:
		for _, item := range c.Items {
			refs = append(refs, item.Ref)
		}
	}
	return refs
}

// tell names what a command was answered.
func tell(result any, answered func(core, answer string)) {
	problem := func(code txn.Code, p txn.Problem) {
		answered("txn", code.String())
		if p != txn.NoProblem {
			answered("txn", p.String())
		}
	}
	switch r := result.(type) {
	case undecodable:
		answered("coordinator", "undecodable")
	case catalog.Result:
		answered("catalog", r.Code.String())
	case group.Result:
		answered("group", r.Code.String())
	case membership.Result:
		answered("membership", r.Code.String())
	case endResult:
		problem(r.Code, r.Problem)
		if r.Code == txn.CodeStaleMember {
			answered("group", r.group.Code.String())
			answered("group", r.group.Reason.String())
		}
	case txn.InitProducerResult:
		problem(r.Code, r.Problem)
	case txn.AllocateProducerIDsResult:
		problem(r.Code, r.Problem)
	case txn.AbortTransactionResult:
		problem(r.Code, r.Problem)
	case txn.FenceProducerResult:
		problem(r.Code, r.Problem)
	case txn.DeleteIDResult:
		answered("txn", r.Code.String())
	case txn.ExpireResult:
		for _, code := range r.Codes {
			answered("txn", code.String())
		}
	case txn.ExpireIDsResult:
		for _, code := range r.Codes {
			answered("txn", code.String())
		}
	case txn.EnlistResult:
		for _, a := range r.Answers {
			answered("txn", "enlistment "+a.Verdict.String())
		}
	}
}
