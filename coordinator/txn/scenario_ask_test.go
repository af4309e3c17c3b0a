package txn_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/oncelog/oncelog/coordinator/txn"
)

// The questions of the scenarios, and how their files are read.

func (s *scenario) outcome(d *datadriven.TestData) (string, error) {
	ref, err := s.reference(d)
	if err != nil {
		return "", err
	}
	rep := s.m.GetOutcome(ref)
	out := rep.Status.String()
	if rep.Reason != txn.ReasonNone {
		out += " (" + rep.Reason.String() + ")"
	}
	if rep.Damaged {
		out += ", damaged"
	}
	return out + pending(rep.Pending), nil
}

func (s *scenario) describe(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	about, ok := s.m.Describe(id)
	if !ok {
		return "unknown", nil
	}
	out := fmt.Sprintf("%v, epoch %d of producer %d, last %d\n", about.State, about.Epoch, about.ProducerID, about.Last)
	if o := about.Open; o != nil {
		out += fmt.Sprintf("open: %s since %s, until %s:", s.ref(o.Ref), clock(o.StartedAt), clock(o.Deadline))
		for _, p := range o.Participants {
			out += fmt.Sprintf(" shard %d %d", p.Shard, p.Partitions)
		}
		out += "\n"
	}
	for _, t := range about.Completing {
		out += fmt.Sprintf("completing: %s %s:", s.ref(t.Ref), decided(t.Outcome, t.Reason))
		for _, p := range t.Participants {
			out += fmt.Sprintf(" shard %d", p.Shard)
			if p.Acknowledged {
				out += " done"
			}
		}
		out += "\n"
	}
	for _, t := range about.Outcomes {
		out += fmt.Sprintf("complete: %s %s\n", s.ref(t.Ref), decided(t.Outcome, t.Reason))
	}
	return out, nil
}

// owed lists the markers that shards have to apply.
func (s *scenario) owed(*datadriven.TestData) (string, error) {
	out := ""
	for _, shard := range s.m.OwedShards() {
		for m := range s.m.Owed(shard) {
			out += fmt.Sprintf("shard %d: %s\n", shard, s.marker(m))
		}
	}
	if out == "" {
		return "nothing", nil
	}
	return out, nil
}

// due lists what a leader would end now because its time is up.
func (s *scenario) due(*datadriven.TestData) (string, error) {
	w := s.m.Work(s.at, 100)
	out := "transactions:"
	for _, ref := range w.Expired {
		out += " " + s.ref(ref)
	}
	out += "\nids:"
	for _, id := range w.IdleIDs {
		out += " " + s.names[id]
	}
	return out, nil
}

func (s *scenario) marker(m txn.Marker) string {
	out := s.ref(m.Ref) + " " + decided(m.Outcome, m.Reason)
	for _, p := range m.Progress {
		out += fmt.Sprintf(" %d=%d", p.Partition, p.NextSequence)
	}
	return out + fmt.Sprintf(", all below %d/%d is over", m.CompleteBelow.Epoch, m.CompleteBelow.Number)
}

func decided(o txn.Outcome, why txn.Reason) string {
	if why != txn.ReasonNone {
		return fmt.Sprintf("%v (%v)", o, why)
	}
	return o.String()
}

func coded(c txn.Code, p txn.Problem) string {
	if p != txn.NoProblem {
		return fmt.Sprintf("%v: %v", c, p)
	}
	return c.String()
}

// by says which epoch is current, where the answer is about that.
func by(c txn.Code, epoch uint32) string {
	if c == txn.CodeFenced || c == txn.CodeForgotten {
		return fmt.Sprintf(", epoch %d is current", epoch)
	}
	return ""
}

func (s *scenario) closed(ref txn.Ref) string {
	if ref.IsZero() {
		return ""
	}
	return "; closed " + s.ref(ref)
}

func pending(shards []uint64) string {
	if len(shards) == 0 {
		return ""
	}
	return fmt.Sprintf("; shards %d have yet to apply it", shards)
}

func (s *scenario) ref(r txn.Ref) string {
	return fmt.Sprintf("%s/%d/%d", s.names[r.ProducerID], r.Epoch, r.Number)
}

// reference reads the transaction that a command begins with. An id that is not
// known stands for a producer id of nobody.
func (s *scenario) reference(d *datadriven.TestData) (ref txn.Ref, err error) {
	text, err := first(d)
	if err != nil {
		return ref, err
	}
	id, rest, _ := strings.Cut(text, "/")
	_, err = fmt.Sscanf(rest, "%d/%d", &ref.Epoch, &ref.Number)
	ref.ProducerID = 1 << 40
	if pid, ok := s.producers[id]; ok {
		ref.ProducerID = pid
	}
	return ref, err
}

func (s *scenario) refAndShard(d *datadriven.TestData) (txn.Ref, uint64, error) {
	ref, err := s.reference(d)
	if err != nil {
		return ref, 0, err
	}
	shard, err := number(d, "shard", 0)
	return ref, shard, err
}

// first is the first word after a command.
func first(d *datadriven.TestData) (string, error) {
	if len(d.CmdArgs) == 0 {
		return "", fmt.Errorf("%s: of what", d.Cmd)
	}
	return d.CmdArgs[0].Key, nil
}

// values returns the values of an argument; none if it is not there.
func values(d *datadriven.TestData, key string) []string {
	arg, _ := d.Arg(key)
	return arg.Vals
}

func number(d *datadriven.TestData, key string, def uint64) (uint64, error) {
	for _, text := range values(d, key) {
		return strconv.ParseUint(text, 10, 64)
	}
	return def, nil
}

func numbers(d *datadriven.TestData, key string) ([]uint64, error) {
	var out []uint64
	for _, text := range values(d, key) {
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// duration reads a span of milliseconds.
func duration(d *datadriven.TestData, key string) (span txn.Millis, ok bool, err error) {
	for _, text := range values(d, key) {
		v, err := time.ParseDuration(text)
		return v.Milliseconds(), true, err
	}
	return 0, false, nil
}

func clock(at txn.Millis) string { return (time.Duration(at) * time.Millisecond).String() }
