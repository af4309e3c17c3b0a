package txn_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/oncelog/oncelog/coordinator/txn"
)

// TestScenarios runs the stories of testdata/scenarios. Every block is a command
// as an entry of the coordinator's log would carry it, or a question; what follows
// the line of dashes is the answer. With -rewrite the answers are written into the
// files, and the difference is what is reviewed. A subtest is named after the
// scenario of Kafka's tests that it corresponds to, where there is one.
//
// A transaction is ID/EPOCH/NUMBER: by the transactional id, not its producer id.
// Shards 1 to 4 exist, each with the partitions 10*shard to 10*shard+2.
//
// Commands, with lines below where they are shown:
//
//	coordinator [outcomes=N] [requests=N] [unfinished=N] [ids=N] [shards-per-txn=N]
//	init ID request=R [timeout=DURATION]          takes an id over
//	allocate COUNT                                producer ids without transactions
//	enlist REF shard=N [partitions=(a, b)] [age=DURATION]
//	commit REF [offsets=fine|stale]               shard 1: 10=3 11=2
//	abort REF                                     shard 1
//	expire REF
//	applied REF shard=N [as=ALREADY|MISSING_DATA|CONFLICT]
//	operator-abort REF
//	fence ID epoch=N
//	delete ID
//	expire-id ID
//	remove-shard N
//	remove-partitions shard=N partitions=(a, b)
//	pass DURATION                                 before the next command; may be negative
//	restart                                       from a snapshot
//	exhaust ID                                    gives it its last epoch
//
// Questions: outcome REF, describe ID, owed, due.
func TestScenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := &scenario{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			out, err := s.run(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

// catalogue is what exists.
type catalogue map[uint64][]uint64

// HasShard implements txn.Catalog.
func (c catalogue) HasShard(shard uint64) bool { return c[shard] != nil }

// HasPartition implements txn.Catalog.
func (c catalogue) HasPartition(shard, partition uint64) bool {
	return slices.Contains(c[shard], partition)
}

// offsets are positions that ride on a commit.
type offsets struct{ stale, moved bool }

// Check implements txn.Offsets.
func (o *offsets) Check() bool { return !o.stale }

// Move implements txn.Offsets.
func (o *offsets) Move() { o.moved = true }

// Hold implements txn.Offsets.
func (o *offsets) Hold() {}

// scenario is one coordinator.
type scenario struct {
	m     *txn.Machine
	cfg   txn.Config
	exist catalogue
	at    txn.Millis
	// producers are the newest producer ids of the ids, and names of them.
	producers map[string]uint64
	names     map[uint64]string
}

func (s *scenario) run(d *datadriven.TestData) (string, error) {
	commands := map[string]func(*datadriven.TestData) (string, error){
		"init": s.init, "allocate": s.allocate, "enlist": s.enlist, "commit": s.end, "abort": s.end,
		"expire": s.expire, "applied": s.applied, "operator-abort": s.operatorAbort, "fence": s.fence,
		"delete": s.delete, "expire-id": s.expireID, "remove-shard": s.removeShard,
		"remove-partitions": s.removePartitions, "pass": s.pass, "restart": s.restart, "exhaust": s.exhaust,
		"outcome": s.outcome, "describe": s.describe, "owed": s.owed, "due": s.due,
	}
	if d.Cmd == "coordinator" {
		return s.coordinator(d)
	}
	run := commands[d.Cmd]
	if run == nil || s.m == nil {
		return "", fmt.Errorf("%s: no such command, or no coordinator yet", d.Cmd)
	}
	out, err := run(d)
	return out, errors.Join(err, s.m.Check())
}

func (s *scenario) coordinator(d *datadriven.TestData) (string, error) {
	cfg := txn.DefaultConfig()
	for key, field := range map[string]*int{
		"outcomes": &cfg.OutcomesKept, "requests": &cfg.RequestIDsKept, "unfinished": &cfg.MaxUnfinished,
		"ids": &cfg.MaxIDs, "shards-per-txn": &cfg.MaxParticipants,
	} {
		v, err := number(d, key, uint64(*field))
		if err != nil {
			return "", err
		}
		*field = int(v)
	}
	*s = scenario{
		m: txn.New(cfg), cfg: cfg, at: 1000, exist: catalogue{},
		producers: map[string]uint64{}, names: map[uint64]string{},
	}
	for shard := uint64(1); shard <= 4; shard++ {
		s.exist[shard] = []uint64{10 * shard, 10*shard + 1, 10*shard + 2}
	}
	return "", nil
}

// apply executes a command as an entry of the log does: on what it is when it is
// read back. A machine restored from a snapshot before it must do the same (I10).
func (s *scenario) apply(c txn.Command, o txn.Offsets) (txn.Result, error) {
	replica := txn.New(s.cfg)
	if err := replica.Restore(s.m.Snapshot()); err != nil {
		return nil, err
	}
	at, decoded, err := txn.DecodeCommand(txn.AppendCommand(nil, s.at, c))
	if err != nil {
		return nil, err
	}
	env := txn.Env{Catalog: s.exist, Offsets: o}
	res, same := s.m.Apply(at, decoded, env), replica.Apply(at, decoded, env)
	if !reflect.DeepEqual(res, same) || !bytes.Equal(s.m.Snapshot(), replica.Snapshot()) {
		return nil, fmt.Errorf("a replica that was restored does otherwise: %+v, not %+v", same, res)
	}
	return res, nil
}

func (s *scenario) init(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	c := txn.InitProducer{TransactionalID: id, Timeout: 10_000}
	copy(c.RequestID[:], strings.Join(values(d, "request"), ""))
	if span, ok, err := duration(d, "timeout"); err != nil {
		return "", err
	} else if ok {
		c.Timeout = span
	}
	r, err := s.apply(c, nil)
	if err != nil {
		return "", err
	}
	res := r.(txn.InitProducerResult)
	if res.Code != txn.CodeOK {
		return coded(res.Code, res.Problem) + by(res.Code, res.Epoch), nil
	}
	s.producers[id], s.names[res.ProducerID] = res.ProducerID, id
	out := fmt.Sprintf("epoch %d of producer %d", res.Epoch, res.ProducerID)
	if res.Repeated {
		out += ", as before"
	}
	if res.Previous.Number > 0 {
		out += fmt.Sprintf("; the last one was %s: %s", s.ref(res.Previous), decided(res.PreviousOutcome, res.PreviousReason))
	}
	return out + s.closed(res.Closed) + pending(res.Incomplete), nil
}

func (s *scenario) allocate(d *datadriven.TestData) (string, error) {
	text, err := first(d)
	if err != nil {
		return "", err
	}
	count, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return "", err
	}
	r, err := s.apply(txn.AllocateProducerIDs{Count: uint32(count)}, nil)
	if err != nil {
		return "", err
	}
	res := r.(txn.AllocateProducerIDsResult)
	if res.Code != txn.CodeOK {
		return coded(res.Code, res.Problem), nil
	}
	return fmt.Sprintf("producers %d to %d", res.First, res.First+uint64(res.Count)-1), nil
}

func (s *scenario) enlist(d *datadriven.TestData) (string, error) {
	ref, shard, err := s.refAndShard(d)
	if err != nil {
		return "", err
	}
	item := txn.EnlistItem{Ref: ref, Shard: shard, OpenedAt: 7}
	if item.Age, _, err = duration(d, "age"); err != nil {
		return "", err
	}
	if item.Partitions, err = numbers(d, "partitions"); err != nil {
		return "", err
	}
	peeked, needsLog := s.m.PeekEnlist(item, txn.Env{Catalog: s.exist})
	before := s.m.Snapshot()
	r, err := s.apply(txn.Enlist{Items: []txn.EnlistItem{item}}, nil)
	if err != nil {
		return "", err
	}
	a := r.(txn.EnlistResult).Answers[0]
	// Markers tell the state of the moment; the verdict must be the same.
	if peeked.Verdict != a.Verdict || peeked.FenceEpoch != a.FenceEpoch || peeked.Invalid != a.Invalid {
		return "", fmt.Errorf("the look before the log said %+v, the log %+v", peeked, a)
	}
	out := a.Verdict.String()
	switch {
	case a.Verdict == txn.VerdictDecided:
		out += ": " + s.marker(a.Marker)
	case a.FenceEpoch > 0:
		out += fmt.Sprintf(", fenced by epoch %d", a.FenceEpoch)
	case a.Invalid:
		out += ", invalid"
	case a.Verdict == txn.VerdictAccepted && !needsLog:
		out += ", known already"
		if s.m.Now() == s.at && !bytes.Equal(before, s.m.Snapshot()) {
			return "", errors.New("what needed no log entry changed the state")
		}
	}
	return out, nil
}

func (s *scenario) end(d *datadriven.TestData) (string, error) {
	ref, err := s.reference(d)
	if err != nil {
		return "", err
	}
	c := txn.EndTransaction{Ref: ref, Commit: d.Cmd == "commit"}
	for line := range strings.Lines(d.Input) {
		p, err := participant(line)
		if err != nil {
			return "", err
		}
		c.Participants = append(c.Participants, p)
	}
	var o *offsets
	var carried txn.Offsets
	for _, how := range values(d, "offsets") {
		c.OffsetsPayload = []byte(how)
		o = &offsets{stale: how == "stale"}
		carried = o
	}
	r, err := s.apply(c, carried)
	if err != nil {
		return "", err
	}
	res := r.(txn.EndTransactionResult)
	out := coded(res.Code, res.Problem)
	switch res.Code {
	case txn.CodeOK, txn.CodeConflict:
		out += ": " + decided(res.Outcome, res.Reason)
	case txn.CodeUnsettledSends:
		out += fmt.Sprintf(": shards %d", res.Unsettled)
	default:
		out += by(res.Code, res.CurrentEpoch)
	}
	if res.Repeated {
		out += ", as before"
	}
	if o != nil && o.moved {
		out += "; the offsets moved"
	}
	if res.Damaged {
		out += "; damaged"
	}
	return out + s.closed(res.Superseded) + pending(res.Pending), nil
}

// participant reads "shard N: PARTITION=NEXT...".
func participant(line string) (p txn.Participant, err error) {
	head, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
	if _, err = fmt.Sscanf(head, "shard %d", &p.Shard); err != nil {
		return p, err
	}
	for _, field := range strings.Fields(rest) {
		var pr txn.Progress
		if _, err = fmt.Sscanf(field, "%d=%d", &pr.Partition, &pr.NextSequence); err != nil {
			return p, err
		}
		p.Progress = append(p.Progress, pr)
	}
	return p, nil
}

func (s *scenario) expire(d *datadriven.TestData) (string, error) {
	ref, err := s.reference(d)
	if err != nil {
		return "", err
	}
	r, err := s.apply(txn.Expire{Refs: []txn.Ref{ref}}, nil)
	if err != nil {
		return "", err
	}
	return r.(txn.ExpireResult).Codes[0].String(), nil
}

func (s *scenario) applied(d *datadriven.TestData) (string, error) {
	ref, shard, err := s.refAndShard(d)
	if err != nil {
		return "", err
	}
	ack := txn.MarkerAck{Ref: ref, Shard: shard, Answer: txn.MarkerApplied}
	for _, name := range values(d, "as") {
		for ack.Answer.String() != name {
			if ack.Answer++; ack.Answer == 0 {
				return "", fmt.Errorf("no such answer: %s", name)
			}
		}
	}
	r, err := s.apply(txn.MarkersApplied{Items: []txn.MarkerAck{ack}}, nil)
	if err != nil {
		return "", err
	}
	res := r.(txn.MarkersAppliedResult)
	switch {
	case res.Noted == 0:
		return "nothing new", nil
	case len(res.Completed) == 0:
		return "noted", nil
	case res.Damaged > 0:
		return "complete, and damaged", nil
	}
	return "complete", nil
}

func (s *scenario) operatorAbort(d *datadriven.TestData) (string, error) {
	ref, err := s.reference(d)
	if err != nil {
		return "", err
	}
	r, err := s.apply(txn.AbortTransaction{Ref: ref}, nil)
	if err != nil {
		return "", err
	}
	res := r.(txn.AbortTransactionResult)
	out := coded(res.Code, res.Problem)
	if res.Code == txn.CodeOK {
		out += ": " + decided(txn.Aborted, res.Reason)
	}
	return out + by(res.Code, res.CurrentEpoch) + pending(res.Pending), nil
}

func (s *scenario) fence(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	epoch, err := number(d, "epoch", 0)
	if err != nil {
		return "", err
	}
	r, err := s.apply(txn.FenceProducer{TransactionalID: id, Epoch: uint32(epoch)}, nil)
	if err != nil {
		return "", err
	}
	res := r.(txn.FenceProducerResult)
	if res.Code != txn.CodeOK {
		return coded(res.Code, res.Problem), nil
	}
	return fmt.Sprintf("epoch %d", res.CurrentEpoch) + s.closed(res.Closed), nil
}

func (s *scenario) delete(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	r, err := s.apply(txn.DeleteID{TransactionalID: id}, nil)
	if err != nil {
		return "", err
	}
	res := r.(txn.DeleteIDResult)
	return res.Code.String() + s.closed(res.Closed) + pending(res.Pending), nil
}

func (s *scenario) expireID(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	r, err := s.apply(txn.ExpireIDs{ProducerIDs: []uint64{s.producers[id]}}, nil)
	if err != nil {
		return "", err
	}
	return r.(txn.ExpireIDsResult).Codes[0].String(), nil
}

func (s *scenario) removeShard(d *datadriven.TestData) (string, error) {
	text, err := first(d)
	if err != nil {
		return "", err
	}
	shard, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return "", err
	}
	delete(s.exist, shard)
	out := "completed:"
	for _, ref := range s.m.RemoveShard(s.at, shard) {
		out += " " + s.ref(ref)
	}
	return out, nil
}

func (s *scenario) removePartitions(d *datadriven.TestData) (string, error) {
	shard, err := number(d, "shard", 0)
	if err != nil {
		return "", err
	}
	gone, err := numbers(d, "partitions")
	s.exist[shard] = slices.DeleteFunc(s.exist[shard], func(p uint64) bool { return slices.Contains(gone, p) })
	s.m.RemovePartitions(s.at, shard, gone)
	return "", err
}

func (s *scenario) pass(d *datadriven.TestData) (string, error) {
	text, err := first(d)
	if err != nil {
		return "", err
	}
	span, err := time.ParseDuration(text)
	s.at += span.Milliseconds()
	return "", err
}

func (s *scenario) restart(*datadriven.TestData) (string, error) {
	next := txn.New(s.cfg)
	err := next.Restore(s.m.Snapshot())
	s.m = next
	return "", err
}

func (s *scenario) exhaust(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err == nil {
		txn.ExhaustEpochs(s.m, id)
	}
	return "", err
}
