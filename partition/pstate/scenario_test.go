package pstate_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/oncelog/oncelog/partition/pstate"
)

// TestScenarios runs the stories of testdata/scenarios. Every block is a command
// as an entry of the shard's log would carry it, or a question; what follows the
// line of dashes is the answer. With -rewrite the answers are written into the
// files, and the difference is what is reviewed. A subtest is named after the
// scenario of Kafka's tests that it corresponds to, where there is one.
//
// Commands, with a line below per partition where one is shown:
//
//	shard partitions=(a, b) [ranges-kept=N] [expiration=DURATION] [max-open=N] [max-producers=N] [max-sequences=N] [max-batch=BYTES]
//	append PRODUCER/EPOCH/NUMBER        a seq=N count=N [size=BYTES] [time=MS]
//	commit REF [complete-below=E/N]     a next=N
//	abort REF [reason=TIMEOUT] [complete-below=E/N]
//	answer REF stray|invalid|abort|commit [fence=N] [reason=R] [opened-at=INDEX]    a next=N
//	forget PRODUCER...
//	retain a start=N
//	catalog [add=(c, d)] [remove=(a)]
//	configure [as shard]
//	pass DURATION                        before the next command
//	restart                              from a snapshot
//
// Questions: read a [from=N], hidden a, open, producers a, producer PRODUCER, and
// ask: which producers the coordinator is asked about.
func TestScenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := &scenario{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(t, d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

// scenario is one shard and what its log holds.
type scenario struct {
	*pstate.Checked
	names  []string // of partition i+1; ids are never used again
	stored []stored
}

// stored is a batch that was appended.
type stored struct {
	partition     uint64
	ref           pstate.TxnRef
	offset, first uint64
	count         uint32
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) (string, error) {
	commands := map[string]func(*testing.T, *datadriven.TestData) (string, error){
		"append": s.append, "commit": s.marker, "abort": s.marker, "answer": s.answer, "forget": s.forget,
		"retain": s.retain, "catalog": s.catalog, "configure": s.configure, "pass": s.pass, "restart": s.restart,
		"ask": s.ask, "read": s.read, "hidden": s.hidden, "open": s.open, "producers": s.producers, "producer": s.producer,
	}
	if d.Cmd == "shard" {
		return s.shard(t, d)
	}
	run := commands[d.Cmd]
	if run == nil || s.Checked == nil {
		return "", fmt.Errorf("%s: no such command, or no shard yet", d.Cmd)
	}
	return run(t, d)
}

func (s *scenario) shard(t *testing.T, d *datadriven.TestData) (string, error) {
	cfg, err := config(d)
	if err != nil {
		return "", err
	}
	*s = scenario{Checked: pstate.NewChecked(cfg)}
	c := pstate.SyncPartitions{At: s.Now(), Version: 1, Full: true}
	for _, name := range values(d, "partitions") {
		c.Add = append(c.Add, s.named(name))
	}
	entry, err := pstate.EncodeSyncPartitions(nil, c)
	s.Apply(t, entry, err)
	return "", nil
}

// named gives a partition its id.
func (s *scenario) named(name string) pstate.PartitionInfo {
	s.names = append(s.names, name)
	id := uint64(len(s.names))
	return pstate.PartitionInfo{ID: id, TopicID: 1, Topic: name, Index: uint32(id)}
}

func (s *scenario) append(t *testing.T, d *datadriven.TestData) (string, error) {
	ref, err := reference(d)
	if err != nil {
		return "", err
	}
	a := pstate.Append{At: s.Now(), Ref: ref}
	var payloads [][]byte
	for line := range strings.Lines(d.Input) {
		id, args, err := s.line(line)
		if err != nil {
			return "", err
		}
		payloads = append(payloads, make([]byte, args.or("size", 1)))
		a.Batches = append(a.Batches, pstate.Batch{
			Partition: id, BaseSequence: args["seq"], Count: uint32(args["count"]),
			MaxTimestamp: pstate.Millis(args["time"]), Size: uint32(args.or("size", 1)),
		})
	}
	before := s.State().Snapshot()
	guess := s.State().Decide(ref, a.Batches[0])
	if !bytes.Equal(before, s.State().Snapshot()) {
		return "", errors.New("the look before the log changed the state")
	}
	entry, err := pstate.EncodeAppends(nil, []pstate.Append{a}, payloads)
	results := s.Apply(t, entry, err).([]pstate.BatchResult)
	if guess != results[0] {
		return "", fmt.Errorf("the look before the log said %+v, the log %+v", guess, results[0])
	}
	var out strings.Builder
	for i, r := range results {
		b := a.Batches[i]
		if r.Code == pstate.CodeAppended {
			s.stored = append(s.stored, stored{b.Partition, ref, r.BaseOffset, b.BaseSequence, b.Count})
		}
		fmt.Fprintf(&out, "%s: %s\n", s.name(b.Partition), verdict(r))
	}
	return out.String(), nil
}

// verdict is the answer to a producer.
func verdict(r pstate.BatchResult) string {
	text := r.Code.String()
	switch {
	case r.Code == pstate.CodeAppended && r.OpensTxn:
		return fmt.Sprintf("%s at %d, and opened", text, r.BaseOffset)
	case r.Code.OK() && r.OffsetKnown:
		return fmt.Sprintf("%s at %d", text, r.BaseOffset)
	case r.Code.OK():
		return text + ", the offset is no longer known"
	case r.Code == pstate.CodeOutOfOrder:
		return fmt.Sprintf("%s, next is %d", text, r.NextExpected)
	case r.Code == pstate.CodeFenced:
		return fmt.Sprintf("%s by epoch %d", text, r.CurrentEpoch)
	case r.Code == pstate.CodeTxnEnded:
		return fmt.Sprintf("%s by %s", text, outcome(r.Outcome, r.Reason))
	}
	return text
}

func outcome(o pstate.Outcome, why pstate.Reason) string {
	if o == pstate.OutcomeAbort && why != pstate.ReasonNone {
		return fmt.Sprintf("%v (%v)", o, why)
	}
	return o.String()
}

func (s *scenario) marker(t *testing.T, d *datadriven.TestData) (string, error) {
	ref, err := reference(d)
	if err != nil {
		return "", err
	}
	m := pstate.Marker{Ref: ref}
	if m.Decision, err = s.decision(d, d.Cmd); err != nil {
		return "", err
	}
	entry, err := pstate.EncodeMarkers(nil, pstate.Markers{At: s.Now(), List: []pstate.Marker{m}})
	return s.ended(s.Apply(t, entry, err).([]pstate.MarkerResult)[0]), nil
}

// decision reads how a transaction ended.
func (s *scenario) decision(d *datadriven.TestData, how string) (out pstate.Decision, err error) {
	out.Outcome = pstate.OutcomeCommit
	if how == "abort" {
		out.Outcome, out.Reason = pstate.OutcomeAbort, pstate.ReasonClient
	}
	for _, name := range values(d, "reason") {
		out.Reason = 0
		for out.Reason.String() != name {
			if out.Reason++; out.Reason == 0 {
				return out, fmt.Errorf("no such reason: %s", name)
			}
		}
	}
	for _, at := range values(d, "complete-below") {
		if _, err := fmt.Sscanf(at, "%d/%d", &out.CompleteBelow.Epoch, &out.CompleteBelow.Number); err != nil {
			return out, err
		}
	}
	for line := range strings.Lines(d.Input) {
		id, args, err := s.line(line)
		if err != nil {
			return out, err
		}
		out.Progress = append(out.Progress, pstate.Progress{Partition: id, Next: args["next"]})
	}
	return out, nil
}

// ended says what a marker or an answer did.
func (s *scenario) ended(r pstate.MarkerResult) string {
	out := r.Code.String()
	if r.Code == pstate.MarkerConflict {
		out += " with " + outcome(r.Outcome, r.Reason)
	}
	for _, d := range r.Damage {
		out += fmt.Sprintf("; %s: %d stated, %d held", s.name(d.Partition), d.Stated, d.Held)
	}
	if r.Discarded > 0 {
		out += fmt.Sprintf("; %d discarded", r.Discarded)
	}
	for i, id := range r.Moved {
		out += []string{"; moved ", ", "}[min(i, 1)] + s.name(id)
	}
	return out
}

func (s *scenario) answer(t *testing.T, d *datadriven.TestData) (string, error) {
	ref, err := reference(d)
	if err != nil || len(d.CmdArgs) < 2 {
		return "", errors.Join(err, errors.New("answer REF VERDICT"))
	}
	a := pstate.EnlistAnswer{Ref: ref}
	found, _, _, _ := s.State().Find(ref)
	if a.OpenedAt, err = number(d, "opened-at", found.OpenedAt); err != nil {
		return "", err
	}
	fence, err := number(d, "fence", 0)
	a.Fence = uint32(fence)
	switch how := d.CmdArgs[1].Key; how {
	case "stray":
		a.Verdict = pstate.VerdictStray
	case "invalid":
		a.Verdict = pstate.VerdictInvalid
	case "commit", "abort":
		a.Verdict = pstate.VerdictDecided
		if a.Decision, err = s.decision(d, how); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("no such verdict: %s", how)
	}
	if err != nil {
		return "", err
	}
	entry, err := pstate.EncodeEnlistAnswers(nil, pstate.EnlistAnswers{At: s.Now(), List: []pstate.EnlistAnswer{a}})
	return s.ended(s.Apply(t, entry, err).([]pstate.MarkerResult)[0]), nil
}

func (s *scenario) forget(t *testing.T, d *datadriven.TestData) (string, error) {
	f := pstate.Forget{At: s.Now()}
	for _, arg := range d.CmdArgs {
		id, err := strconv.ParseUint(arg.Key, 10, 64)
		if err != nil {
			return "", err
		}
		f.Producers = append(f.Producers, id)
	}
	entry, err := pstate.EncodeForget(nil, f)
	if kept := s.Apply(t, entry, err).([]uint64); len(kept) > 0 {
		return fmt.Sprintf("kept: %d", kept), nil
	}
	return "", nil
}

func (s *scenario) retain(t *testing.T, d *datadriven.TestData) (string, error) {
	id, err := s.partition(d)
	if err != nil {
		return "", err
	}
	start, err := number(d, "start", 0)
	if err != nil {
		return "", err
	}
	entry, err := pstate.EncodeAdvanceLogStarts(nil, pstate.AdvanceLogStarts{
		At: s.Now(), Starts: []pstate.LogStart{{Partition: id, Start: start}},
	})
	res := s.Apply(t, entry, err).([]pstate.LogStartResult)[0]
	return fmt.Sprintf("%v: %s starts at %d", res.Code, s.name(id), res.Start), nil
}

func (s *scenario) catalog(t *testing.T, d *datadriven.TestData) (string, error) {
	version := s.State().CatalogVersion()
	c := pstate.SyncPartitions{At: s.Now(), Version: version + 1, From: version}
	for _, name := range values(d, "remove") {
		id, err := s.id(name)
		if err != nil {
			return "", err
		}
		c.Remove = append(c.Remove, id)
	}
	for _, name := range values(d, "add") {
		c.Add = append(c.Add, s.named(name))
	}
	entry, err := pstate.EncodeSyncPartitions(nil, c)
	res := s.Apply(t, entry, err).(pstate.SyncResult)
	out := res.Code.String()
	for _, ref := range res.Closed {
		out += fmt.Sprintf("; closed %v", ref)
	}
	return out, nil
}

func (s *scenario) configure(t *testing.T, d *datadriven.TestData) (string, error) {
	cfg, err := config(d)
	if err != nil {
		return "", err
	}
	s.Apply(t, pstate.EncodeConfigure(nil, pstate.Configure{At: s.Now(), Config: cfg}), nil)
	return "", nil
}

func (s *scenario) pass(_ *testing.T, d *datadriven.TestData) (string, error) {
	if len(d.CmdArgs) != 1 {
		return "", errors.New("pass DURATION")
	}
	span, err := time.ParseDuration(d.CmdArgs[0].Key)
	s.Pass(span.Milliseconds())
	return "", err
}

func (s *scenario) restart(t *testing.T, _ *datadriven.TestData) (string, error) {
	s.Restart(t)
	return "", nil
}

// read shows a partition as its readers see it.
func (s *scenario) read(_ *testing.T, d *datadriven.TestData) (string, error) {
	id, err := s.partition(d)
	if err != nil {
		return "", err
	}
	from, err := number(d, "from", s.State().LogStart(id))
	if err != nil {
		return "", err
	}
	p, ok := s.State().Partition(id)
	if !ok {
		return "not hosted here", nil
	}
	var out strings.Builder
	for _, b := range s.stored {
		if b.partition == id && b.offset >= from {
			fmt.Fprintf(&out, "%s by %v: %s\n", span(b.offset, b.count), b.ref, s.shown(b, p))
		}
	}
	fmt.Fprintf(&out, "start %d, stable %d, end %d", p.Start, p.Stable, p.Applied)
	if by, ok := s.State().Blocker(id); ok {
		fmt.Fprintf(&out, ", held by %v since %s", by.Ref, clock(by.OpenedTime))
	}
	return out.String(), nil
}

// shown says what read_committed sees of a batch.
func (s *scenario) shown(b stored, p pstate.PartitionStatus) string {
	switch n := s.State().CommittedPrefix(b.partition, b.ref, b.offset, b.first, b.count); {
	case n == b.count:
		return "committed"
	case n > 0:
		return fmt.Sprintf("the first %d committed", n)
	case b.offset >= uint64(p.Stable):
		return "not yet"
	}
	return "hidden"
}

func (s *scenario) hidden(_ *testing.T, d *datadriven.TestData) (string, error) {
	id, err := s.partition(d)
	if err != nil {
		return "", err
	}
	out := "nothing\n"
	for i, h := range s.State().Aborted(id, 0, s.State().AppliedEnd(id)) {
		if i == 0 {
			out = ""
		}
		out += fmt.Sprintf("%v in [%d, %d) from sequence %d\n", h.Ref, h.First, h.End, h.MinSequence)
	}
	return out, nil
}

func (s *scenario) open(*testing.T, *datadriven.TestData) (string, error) {
	out := ""
	for o := range s.State().Open() {
		out += fmt.Sprintf("%v since entry %d:", o.Ref, o.OpenedAt)
		for _, p := range o.Parts {
			out += fmt.Sprintf(" %s from %d, next %d;", s.name(p.Partition), p.FirstOffset, p.Next)
		}
		out = strings.TrimSuffix(out, ";") + "\n"
	}
	if out == "" {
		return "nothing", nil
	}
	return out, nil
}

func (s *scenario) producers(_ *testing.T, d *datadriven.TestData) (string, error) {
	id, err := s.partition(d)
	if err != nil {
		return "", err
	}
	rows, _ := s.State().DescribeProducers(id)
	if len(rows) == 0 {
		return "nobody", nil
	}
	out := ""
	for _, r := range rows {
		out += fmt.Sprintf("%v %v, next %d, last at %s\n", r.Ref, r.State, r.NextSequence, clock(r.LastTimestamp))
	}
	return out, nil
}

func (s *scenario) producer(_ *testing.T, d *datadriven.TestData) (string, error) {
	if len(d.CmdArgs) != 1 {
		return "", errors.New("producer ID")
	}
	id, err := strconv.ParseUint(d.CmdArgs[0].Key, 10, 64)
	if err != nil {
		return "", err
	}
	p, ok := s.State().Producer(id)
	if !ok {
		return "unknown", nil
	}
	if p.Gone {
		return "gone since " + clock(p.LastSeen), nil
	}
	return fmt.Sprintf("floor %v, fence %d, %d open, %d ended, %d idempotent sequences, last at %s",
		p.Floor, p.Fence, p.Open, p.Ended, p.Sequences, clock(p.LastSeen)), nil
}

func (s *scenario) ask(*testing.T, *datadriven.TestData) (string, error) {
	return fmt.Sprint(s.State().FlooredProducers(0, 10)), nil
}

// partition reads the partition that a command begins with.
func (s *scenario) partition(d *datadriven.TestData) (uint64, error) {
	if len(d.CmdArgs) == 0 {
		return 0, fmt.Errorf("%s: which partition", d.Cmd)
	}
	return s.id(d.CmdArgs[0].Key)
}

// id returns the newest partition of a name.
func (s *scenario) id(name string) (uint64, error) {
	for i, n := range slices.Backward(s.names) {
		if n == name {
			return uint64(i + 1), nil
		}
	}
	return 0, fmt.Errorf("no partition %s", name)
}

func (s *scenario) name(id uint64) string { return s.names[id-1] }

// numbers are the arguments of one partition's line.
type numbers map[string]uint64

func (n numbers) or(key string, def uint64) uint64 {
	if v, ok := n[key]; ok {
		return v
	}
	return def
}

// line reads "PARTITION key=N...".
func (s *scenario) line(text string) (partition uint64, args numbers, err error) {
	name, list, err := datadriven.ParseLine(text)
	if err != nil {
		return 0, nil, err
	}
	if partition, err = s.id(name); err != nil {
		return 0, nil, err
	}
	args = numbers{}
	for _, arg := range list {
		if args[arg.Key], err = strconv.ParseUint(strings.Join(arg.Vals, ""), 10, 64); err != nil {
			return 0, nil, fmt.Errorf("%s: %w", arg.Key, err)
		}
	}
	return partition, args, nil
}

// reference reads the transaction that a command begins with.
func reference(d *datadriven.TestData) (ref pstate.TxnRef, err error) {
	if len(d.CmdArgs) == 0 {
		return ref, fmt.Errorf("%s: which transaction", d.Cmd)
	}
	_, err = fmt.Sscanf(d.CmdArgs[0].Key, "%d/%d/%d", &ref.ProducerID, &ref.Epoch, &ref.Number)
	return ref, err
}

func config(d *datadriven.TestData) (cfg pstate.Config, err error) {
	for key, field := range map[string]*uint32{
		"ranges-kept": &cfg.RangesKept, "max-open": &cfg.MaxOpenPerProducer, "max-producers": &cfg.MaxProducers,
		"max-sequences": &cfg.MaxSequences, "max-batch": &cfg.MaxBatchBytes, "max-partitions": &cfg.MaxPartitions,
	} {
		v, err := number(d, key, 0)
		if err != nil {
			return cfg, err
		}
		*field = uint32(v)
	}
	for _, text := range values(d, "expiration") {
		span, err := time.ParseDuration(text)
		if err != nil {
			return cfg, err
		}
		cfg.ProducerExpiration = span.Milliseconds()
	}
	return cfg, nil
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

// span names the offsets of a batch.
func span(first uint64, count uint32) string {
	if count == 1 {
		return strconv.FormatUint(first, 10)
	}
	return fmt.Sprintf("%d..%d", first, first+uint64(count)-1)
}

func clock(at pstate.Millis) string { return (time.Duration(at) * time.Millisecond).String() }
