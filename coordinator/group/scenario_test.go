package group_test

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

	"github.com/oncelog/oncelog/coordinator/group"
)

// TestScenarios runs the stories of testdata/scenarios. Every block is a command
// as an entry of the coordinator's log would carry it, or a question; what follows
// the line of dashes is the answer. With -rewrite the answers are written into the
// files, and the difference is what is reviewed. A subtest is named after the
// scenario of Kafka's tests that it corresponds to, where there is one.
//
// Partitions 1 to 9 exist. A member commits with the generation that it was given
// last; a position is PARTITION=OFFSET, or with what the member knew before,
// PARTITION=OFFSET after=OFFSET.
//
// Commands, with lines below where they are shown:
//
//	groups
//	assign GROUP MEMBER partitions=(1, 2)
//	leave GROUP MEMBER
//	subscribe GROUP MEMBER topics=(t0, t1) [instance=I] [range]
//	release GROUP MEMBER partitions=(1, 2) [generation=N]
//	lose GROUP MEMBER
//	heartbeat GROUP MEMBER                                   learns the generation
//	create partitions=(10) topics=(t3)
//	commit GROUP [member=M] [generation=N] [txn=NUMBER]      1=10 after=5 metadata=x
//	delete GROUP
//	delete-offsets GROUP partitions=(1) [force]
//	reset GROUP [force]                                      1=10
//	remove-partitions partitions=(1)
//	pass DURATION                                            may be negative
//	restart                                                  from a snapshot
//
// Questions: offsets GROUP [partitions=(1)], describe GROUP, list.
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

// partitions are those that exist. Topics have three each: t0 has 1 to 3.
type partitions []uint64

// TopicPartitions implements group.Catalog.
func (p partitions) TopicPartitions(topic string) []uint64 {
	var number uint64
	if _, err := fmt.Sscanf(topic, "t%d", &number); err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p), func(id uint64) bool { return (id-1)/3 != number })
}

// HasPartition implements group.Catalog.
func (p partitions) HasPartition(id uint64) bool { return slices.Contains(p, id) }

// scenario is the groups of one coordinator.
type scenario struct {
	m     *group.Machine
	exist partitions
	at    int64
	given map[string]uint64 // generations, by group/member
}

func (s *scenario) run(d *datadriven.TestData) (string, error) {
	if d.Cmd == "groups" {
		*s = scenario{m: group.New(), exist: partitions{1, 2, 3, 4, 5, 6, 7, 8, 9}, at: 1000, given: map[string]uint64{}}
		return "", nil
	}
	commands := map[string]func(*datadriven.TestData) (string, error){
		"assign": s.assign, "leave": s.leave, "commit": s.commit, "delete": s.delete, "delete-offsets": s.deleteOffsets,
		"reset": s.reset, "remove-partitions": s.removePartitions, "pass": s.pass, "restart": s.restart,
		"subscribe": s.subscribe, "release": s.release, "lose": s.lose, "heartbeat": s.heartbeat, "create": s.create,
		"offsets": s.offsets, "describe": s.describe, "list": s.list,
	}
	run := commands[d.Cmd]
	if run == nil || s.m == nil {
		return "", fmt.Errorf("%s: no such command, or no groups yet", d.Cmd)
	}
	out, err := run(d)
	return out, errors.Join(err, s.m.CheckAgainst(s.exist))
}

// apply executes a command as an entry of the log does: on what it is when it is
// read back. Groups restored from a snapshot before it must do the same (I10), and
// a refusal must change nothing.
func (s *scenario) apply(c group.Command) (group.Result, error) {
	before := s.m.Snapshot()
	replica := group.New()
	if err := replica.Restore(before); err != nil {
		return group.Result{}, err
	}
	decoded, err := group.DecodeCommand(group.AppendCommand(nil, c))
	if err != nil {
		return group.Result{}, err
	}
	now := s.m.Now()
	res, same := s.m.Apply(s.exist, decoded), replica.Apply(s.exist, decoded)
	switch after := s.m.Snapshot(); {
	case !reflect.DeepEqual(res, same) || !bytes.Equal(after, replica.Snapshot()):
		return res, fmt.Errorf("groups that were restored do otherwise: %+v, not %+v", same, res)
	case !res.OK() && s.m.Now() == now && !bytes.Equal(before, after):
		return res, fmt.Errorf("refused with %v, and changed the state", res.Code)
	}
	return res, nil
}

// answer is the answer to a command in words.
func answer(res group.Result) string {
	r := res.Refusal
	switch {
	case r.OK() && !res.Changed:
		return "OK, nothing new"
	case r.OK():
		return "OK"
	case r.Code != group.CodeStaleMember:
		out := r.Code.String()
		if r.Partition > 0 {
			out += fmt.Sprintf(": partition %d", r.Partition)
		}
		if r.Owner != "" {
			out += ", owned by " + r.Owner
		}
		return out
	}
	out := fmt.Sprintf("%v %v: partition %d", r.Code, r.Reason, r.Partition)
	switch r.Reason {
	case group.ReasonNotOwner:
		if r.Owner == "" {
			return out + " is nobody's"
		}
		return out + " is " + r.Owner + "'s"
	case group.ReasonGeneration:
		return out + fmt.Sprintf(" is its since generation %d, the commit is of %d", r.Have, r.Need)
	case group.ReasonOffsetMoved:
		if !r.HasCommitted {
			return out + " has no position"
		}
		return out + fmt.Sprintf(" is at %d", r.Committed)
	default:
		return out
	}
}

func (s *scenario) assign(d *datadriven.TestData) (string, error) {
	if len(d.CmdArgs) < 2 {
		return "", errors.New("assign GROUP MEMBER")
	}
	c := group.AssignPartitions{At: s.at, Group: d.CmdArgs[0].Key, Member: d.CmdArgs[1].Key, ClientID: "client", Host: "host"}
	var err error
	if c.Partitions, err = ids(d, "partitions"); err != nil {
		return "", err
	}
	res, err := s.apply(c)
	if err != nil || !res.OK() {
		return answer(res), err
	}
	s.given[c.Group+"/"+c.Member] = res.Generation
	out := fmt.Sprintf("generation %d", res.Generation)
	for _, o := range res.Offsets {
		if slices.Contains(c.Partitions, o.Partition) {
			out += "; " + position(o)
		}
	}
	return out, nil
}

func (s *scenario) leave(d *datadriven.TestData) (string, error) {
	if len(d.CmdArgs) < 2 {
		return "", errors.New("leave GROUP MEMBER")
	}
	res, err := s.apply(group.LeaveGroup{At: s.at, Group: d.CmdArgs[0].Key, Member: d.CmdArgs[1].Key})
	return answer(res), err
}

func (s *scenario) commit(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	c := group.Commit{Group: id, Member: strings.Join(values(d, "member"), "")}
	if c.Entries, err = entries(d.Input); err != nil {
		return "", err
	}
	if c.Generation, err = number(d, "generation", s.given[id+"/"+c.Member]); err != nil {
		return "", err
	}
	txn, err := number(d, "txn", 0)
	if err != nil {
		return "", err
	}
	if txn == 0 {
		res, err := s.apply(group.CommitOffsets{At: s.at, Commit: c})
		return answer(res), err
	}
	// Within a transaction's decision the check and the move are apart.
	by, commits := group.TxnRef{ProducerID: 7, Number: txn}, []group.Commit{c}
	before := s.m.Snapshot()
	refusal := s.m.CheckCommits(s.exist, by, commits)
	if !bytes.Equal(before, s.m.Snapshot()) {
		return "", errors.New("the check changed the state")
	}
	res := group.Result{Refusal: refusal}
	if refusal.OK() {
		res.Changed = s.m.ApplyCommits(s.at, by, commits)
	}
	return answer(res), nil
}

func (s *scenario) delete(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	res, err := s.apply(group.DeleteGroup{At: s.at, Group: id})
	return answer(res), err
}

func (s *scenario) deleteOffsets(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	c := group.DeleteOffsets{At: s.at, Group: id, Force: d.HasArg("force")}
	if c.Partitions, err = ids(d, "partitions"); err != nil {
		return "", err
	}
	res, err := s.apply(c)
	return answer(res), err
}

func (s *scenario) reset(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	c := group.ResetOffsets{At: s.at, Group: id, Force: d.HasArg("force")}
	if c.Entries, err = entries(d.Input); err != nil {
		return "", err
	}
	res, err := s.apply(c)
	return answer(res), err
}

func (s *scenario) removePartitions(d *datadriven.TestData) (string, error) {
	gone, err := ids(d, "partitions")
	if err != nil {
		return "", err
	}
	s.exist = slices.DeleteFunc(s.exist, func(p uint64) bool { return slices.Contains(gone, p) })
	res, err := s.apply(group.RemovePartitions{At: s.at, Partitions: gone})
	return answer(res), err
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
	next := group.New()
	err := next.Restore(s.m.Snapshot())
	s.m = next
	return "", err
}

func (s *scenario) offsets(d *datadriven.TestData) (string, error) {
	id, err := first(d)
	if err != nil {
		return "", err
	}
	asked, err := ids(d, "partitions")
	if err != nil {
		return "", err
	}
	out := ""
	for _, o := range s.m.Offsets(id, asked) {
		out += position(o) + "\n"
	}
	if out == "" {
		return "none", nil
	}
	return out, nil
}

// position is a committed offset in words.
func position(o group.PartitionOffset) string {
	if !o.Committed {
		return fmt.Sprintf("partition %d has no position", o.Partition)
	}
	out := fmt.Sprintf("partition %d at %d", o.Partition, o.Offset.Next)
	if o.Offset.Member != "" {
		out += " by " + o.Offset.Member
	}
	if o.Offset.Txn.Number > 0 {
		out += fmt.Sprintf(" in transaction %d", o.Offset.Txn.Number)
	}
	if o.Offset.Metadata != "" {
		out += fmt.Sprintf(" %q", o.Offset.Metadata)
	}
	return out + " since " + (time.Duration(o.Offset.CommittedAt) * time.Millisecond).String()
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
	out := fmt.Sprintf("generation %d\n", about.Generation)
	for _, m := range about.Members {
		out += fmt.Sprintf("%s has %d", m.ID, m.Partitions)
		if len(m.Revoking) > 0 {
			out += fmt.Sprintf(", of which it is to let go %d", m.Revoking)
		}
		out += "\n"
	}
	for _, p := range about.Partitions {
		out += position(p.PartitionOffset)
		if p.Member != "" {
			out += fmt.Sprintf(", %s's since generation %d", p.Member, p.Since)
		}
		out += "\n"
	}
	return out, nil
}

func (s *scenario) list(*datadriven.TestData) (string, error) {
	page, _ := s.m.List("", 100)
	out := ""
	for _, g := range page {
		out += fmt.Sprintf("%s: generation %d, %d members, %d partitions owned, %d positions\n", g.ID, g.Generation, g.Members, g.Owned, g.Offsets)
	}
	if out == "" {
		return "none", nil
	}
	return out, nil
}

// entries reads a position per line: PARTITION=OFFSET [after=OFFSET] [metadata=TEXT].
func entries(text string) ([]group.Entry, error) {
	var out []group.Entry
	for line := range strings.Lines(text) {
		var e group.Entry
		for _, field := range strings.Fields(line) {
			key, value, _ := strings.Cut(field, "=")
			var err error
			switch key {
			case "metadata":
				e.Metadata = value
			case "after":
				e.HasExpected = true
				e.Expected, err = strconv.ParseUint(value, 10, 64)
			default:
				_, err = fmt.Sscanf(field, "%d=%d", &e.Partition, &e.Offset)
			}
			if err != nil {
				return nil, fmt.Errorf("%q: %w", field, err)
			}
		}
		out = append(out, e)
	}
	return out, nil
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

func ids(d *datadriven.TestData, key string) ([]uint64, error) {
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
