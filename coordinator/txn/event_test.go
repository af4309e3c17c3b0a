package txn

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func (e Event) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %d %s/%d/%d shard %d %v %v", []string{"", "initialised", "begun", "enlisted", "decided", "applied", "completed", "forgotten"}[e.Kind],
		e.At, e.TransactionalID, e.Ref.Epoch, e.Ref.Number, e.Shard, e.Outcome, e.Reason))
}

// TestObserve: every step is told once, repetitions tell nothing, and what is restored
// is no event.
func TestObserve(t *testing.T) {
	t.Parallel()
	env := Env{Catalog: newWorld()}
	m := New(DefaultConfig())
	var told []string
	observe := func(m *Machine) { m.Observe(func(e Event) { told = append(told, e.String()) }) }
	observe(m)
	want := func(what string, events ...string) {
		t.Helper()
		if !slices.Equal(told, events) {
			t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(told, "\n"), strings.Join(events, "\n"))
		}
		told = nil
	}
	initProducer := func(at Millis, request byte) InitProducerResult {
		return m.InitProducer(at, InitProducer{TransactionalID: "app", RequestID: RequestID{request}})
	}
	id := initProducer(10, 1).ProducerID
	initProducer(11, 1)
	want("a new id", "initialised 10 app/0/0 shard 0 UNDECIDED NONE")
	ref := Ref{ProducerID: id, Number: 1}
	shard := shardOfWorld(env.Catalog.(world))
	m.Enlist(12, Enlist{Items: []EnlistItem{{Ref: ref, Shard: shard}}}, env)
	m.Enlist(13, Enlist{Items: []EnlistItem{{Ref: ref, Shard: shard}}}, env)
	want("an enlistment", "begun 12 app/0/1 shard 0 UNDECIDED NONE", fmt.Sprintf("enlisted 12 app/0/1 shard %d UNDECIDED NONE", shard))
	restored := New(DefaultConfig())
	observe(restored)
	if err := restored.Restore(m.Snapshot()); err != nil {
		t.Fatal(err)
	}
	want("restoring")
	m.EndTransaction(14, EndTransaction{Ref: ref, Commit: true, Participants: []Participant{{Shard: shard}}}, env)
	m.EndTransaction(15, EndTransaction{Ref: ref, Commit: true, Participants: []Participant{{Shard: shard}}}, env)
	want("a commit", "decided 14 app/0/1 shard 0 COMMITTED NONE")
	applied := MarkersApplied{Items: []MarkerAck{{Ref: ref, Shard: shard, Answer: MarkerApplied}}}
	m.MarkersApplied(16, applied)
	m.MarkersApplied(17, applied)
	want("its marker", fmt.Sprintf("applied 16 app/0/1 shard %d COMMITTED NONE", shard), "completed 16 app/0/1 shard 0 COMMITTED NONE")
	m.EndTransaction(18, EndTransaction{Ref: Ref{ProducerID: id, Number: 2}}, env)
	want("an abort of nothing", "decided 18 app/0/2 shard 0 ABORTED CLIENT", "completed 18 app/0/2 shard 0 ABORTED CLIENT")
	m.FenceProducer(19, FenceProducer{TransactionalID: "app"})
	m.FenceProducer(19, FenceProducer{TransactionalID: "app"})
	want("a fence", "initialised 19 app/1/0 shard 0 UNDECIDED NONE")
	m.DeleteID(20, DeleteID{TransactionalID: "app"})
	want("a deletion", "forgotten 20 app/1/0 shard 0 UNDECIDED NONE")
}

func shardOfWorld(w world) uint64 {
	least := uint64(0)
	for shard := range w {
		if least == 0 || shard < least {
			least = shard
		}
	}
	return least
}
