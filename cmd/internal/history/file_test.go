package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// checksummed appends the checksum of a value.
func checksummed(b []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
}

func save(t testing.TB, h *History) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Save(&b, h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFileRoundTrip: what is loaded is what was saved, and judged the same.
func TestFileRoundTrip(t *testing.T) {
	t.Parallel()
	scene := newScene().h
	scene.Labels = map[string]string{"seed": "7", "commit": "abc"}
	without := &History{Rules: scene.Rules, Events: scene.Events}
	nobodyLooked := newScene().h
	nobodyLooked.Audit.Offsets = nil
	for name, h := range map[string]*History{
		"scene": scene, "without audit": without, "without offsets": nobodyLooked, "empty": {}, "with an empty audit": {Audit: &Audit{}},
		"toy": newToy(3, "").everything(4), "bad": newToy(3, "appended twice").everything(4),
	} {
		b := save(t, h)
		got, err := Load(bytes.NewReader(b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(got.Rules, h.Rules) || !reflect.DeepEqual(got.Labels, h.Labels) || len(got.Events) != len(h.Events) {
			t.Errorf("%s: rules %+v, labels %v, %d events", name, got.Rules, got.Labels, len(got.Events))
		}
		for i := range got.Events {
			if !reflect.DeepEqual(got.Events[i], h.Events[i]) {
				t.Fatalf("%s: event %d\n%+v became\n%+v", name, i, h.Events[i], got.Events[i])
			}
		}
		if !reflect.DeepEqual(got.Audit, h.Audit) {
			t.Errorf("%s: audit %+v\nbecame %+v", name, h.Audit, got.Audit)
		}
		if !reflect.DeepEqual(Check(got), Check(h)) {
			t.Errorf("%s: judged differently", name)
		}
		if !bytes.Equal(save(t, got), b) {
			t.Errorf("%s: other bytes the second time", name)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	good := string(save(t, newScene().h))
	lines := strings.SplitAfter(good, "\n")
	body := strings.Join(lines[1:], "")
	labels := map[string]string{}
	for i := range MaxLabels + 1 {
		labels[fmt.Sprint(i)] = ""
	}
	if err := Save(&bytes.Buffer{}, &History{Labels: labels}); err == nil {
		t.Error("saved too many labels")
	}
	for name, c := range map[string]struct {
		file string
		want error
	}{
		"nothing":          {"", ErrFormat},
		"no JSON":          {"history\n", ErrFormat},
		"another format":   {`{"format":"other","version":1}` + "\n" + body, ErrFormat},
		"another version":  {`{"format":"oncelog-history","version":2}` + "\n" + body, ErrFormat},
		"cut off":          {good[:len(good)/2], ErrTruncated},
		"no last line":     {strings.Join(lines[:len(lines)-2], ""), ErrTruncated},
		"a line missing":   {lines[0] + strings.Join(lines[2:], ""), ErrFormat},
		"more at the end":  {good + lines[1], ErrFormat},
		"an unknown line":  {lines[0] + `{"other":1}` + "\n", ErrFormat},
		"an unknown kind":  {lines[0] + `{"event":{"t":1,"e":"other"}}` + "\n", ErrTruncated},
		"event after":      {lines[0] + `{"audit":{}}` + "\n" + lines[1], ErrFormat},
		"two audits":       {lines[0] + `{"audit":{}}` + "\n" + `{"audit":{}}` + "\n", ErrFormat},
		"record before":    {lines[0] + `{"audit":{}}` + "\n" + `{"record":{}}` + "\n", ErrFormat},
		"log before":       {lines[0] + `{"log":{}}` + "\n", ErrFormat},
		"a line too long":  {lines[0] + `{"event":{"code":"` + strings.Repeat("x", MaxLine) + `"}}` + "\n", ErrFormat},
		"a bad id":         {lines[0] + `{"event":{"id":"1/2"}}` + "\n", ErrTruncated},
		"a bad number":     {lines[0] + `{"event":{"id":"1/x/3"}}` + "\n", ErrTruncated},
		"a bad partition":  {lines[0] + `{"event":{"p":"topic"}}` + "\n", ErrTruncated},
		"a bad index":      {lines[0] + `{"event":{"p":"topic/x"}}` + "\n", ErrTruncated},
		"a bad status":     {lines[0] + `{"audit":{}}` + "\n" + `{"log":{}}` + "\n" + `{"record":{"st":"x"}}` + "\n", ErrTruncated},
		"a bad isolation":  {lines[0] + `{"event":{"read":{"iso":"x"}}}` + "\n", ErrTruncated},
		"a bad outcome":    {lines[0] + `{"event":{"out":"x"}}` + "\n", ErrTruncated},
		"a header too big": {`{"format":"` + strings.Repeat("x", MaxLine), ErrFormat},
	} {
		if _, err := Load(strings.NewReader(c.file)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// Of a file that was cut off, what is there can be judged.
	h, err := Load(strings.NewReader(strings.Join(lines[:10], "")))
	if !errors.Is(err, ErrTruncated) || len(h.Events) != 9 {
		t.Errorf("%v, %d events", err, len(h.Events))
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errWrite }

var errWrite = errors.New("no space")

func TestSaveFails(t *testing.T) {
	t.Parallel()
	if err := Save(failing{}, newScene().h); !errors.Is(err, errWrite) {
		t.Error(err)
	}
	long := &History{Events: []Event{{Code: strings.Repeat("x", MaxLine)}}}
	if err := Save(&bytes.Buffer{}, long); err == nil {
		t.Error("saved a line that Load refuses")
	}
}

// FuzzLoad: no file makes the loader panic, and what it takes it can save.
func FuzzLoad(f *testing.F) {
	h := newScene().h
	h.Events = h.Events[:6]
	h.Audit = &Audit{Logs: h.Audit.Logs[:1], Outcomes: h.Audit.Outcomes[:1], Offsets: h.Audit.Offsets, Replicas: h.Audit.Replicas[:1]}
	f.Add(save(f, h))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Load(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again, err := Load(bytes.NewReader(save(t, h))); err != nil || len(again.Events) != len(h.Events) {
			t.Errorf("%d events became %d, %v", len(h.Events), len(again.Events), err)
		}
	})
}

// FuzzCheck: no history makes a checker panic, whatever was changed in it.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{5, 3, 1, 20, 4, 200, 60, 11, 0, 33, 14, 255})
	f.Fuzz(func(_ *testing.T, edits []byte) {
		s := newScene()
		for ; len(edits) >= 3; edits = edits[3:] {
			edit(s.h, int(edits[0]), edits[1], int64(int8(edits[2])))
		}
		Check(s.h)
	})
}

// TestEditedHistories does some of what the fuzz target does, in every run.
func TestEditedHistories(t *testing.T) {
	t.Parallel()
	found := 0
	for i := range len(newScene().h.Events) {
		for field := range byte(fields) {
			for _, v := range []int64{-2, 0, 1, 100} {
				s := newScene()
				edit(s.h, i, field, v)
				if Check(s.h).Total > 0 {
					found++
				}
			}
		}
	}
	if found == 0 {
		t.Error("no edit was noticed")
	}
}

const fields = 24

// edit changes one field of one event, or of the audit.
func edit(h *History, i int, field byte, v int64) {
	e := &h.Events[i%len(h.Events)]
	logs := h.Audit.Logs
	log := &logs[i%len(logs)]
	record := &log.Records[i%len(log.Records)]
	position := &h.Audit.Offsets[i%len(h.Audit.Offsets)]
	for n, change := range [fields]func(){
		func() { e.Kind = Kind(v) }, func() { e.Call = uint64(v) }, func() { e.Reader = uint64(v) }, func() { e.Txn = uint64(v) },
		func() { e.TxID = TxID{uint64(v) % 5, uint32(v) % 2, uint64(v) % 3} }, func() { e.TransactionalID = fmt.Sprint(v) },
		func() { e.Partition = logs[uint64(v)%uint64(len(logs))].Partition }, func() { e.Value.Txn = uint64(v) },
		func() { e.Value.Index = uint32(v) }, func() { e.Offset = v }, func() { e.Outcome = Outcome(v) },
		func() { e.Previous = &Previous{TxID{1, 0, uint64(v)}, Outcome(v)} }, func() { e.Read, e.Group, e.Ends = nil, nil, nil },
		func() { e.Read = &Read{From: v, Next: v + 3, Seen: []Seen{{v, record.Value}, {v + 1, Value{}}}} },
		func() { e.Group = &Group{"g", []Move{{in0, v, v + 1}}, []Position{{in0, v}}} }, func() { e.Ends = &Ends{v, v, v} },
		func() { record.Offset = v }, func() { record.TxID.Number = uint64(v) }, func() { record.Status = Status(v) },
		func() { record.Value.Txn = uint64(v) }, func() { record.Value.Index = uint32(v) }, func() { log.Ends = Ends{0, v, v} },
		func() { *position = GroupPosition{position.Group, Partition{"elsewhere", 0}, v} },
		func() { h.Audit.Outcomes[i%len(h.Audit.Outcomes)].Outcome = Outcome(v) },
	} {
		if n == int(field)%fields {
			change()
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for o := range lastOutcome + 1 {
		var back Outcome
		if err := back.UnmarshalText([]byte(o.String())); err != nil || back != o {
			t.Errorf("outcome %v became %v, %v", o, back, err)
		}
	}
	for k := range lastKind + 1 {
		var back Kind
		if err := back.UnmarshalText([]byte(k.String())); err != nil || back != k {
			t.Errorf("kind %v became %v, %v", k, back, err)
		}
	}
	if s := (lastKind + 1).String(); s != "unknown-18" {
		t.Error(s)
	}
	if s := StatusHidden.String() + " " + ReadUncommitted.String(); s != "hidden read_uncommitted" {
		t.Error(s)
	}
	p := Partition{"a/b", 3}
	var back Partition
	if err := back.UnmarshalText([]byte(p.String())); err != nil || back != p {
		t.Errorf("%v became %v, %v", p, back, err)
	}
	v := Violation{Invariant: ExactlyOnce, Anomaly: AnomalyDuplicate, Text: "text", Partition: p, Offset: 4, Txn: 5, TxID: TxID{6, 7, 8}}
	if got, want := v.String(), "I1 duplicate: a/b/3 offset 4 txn 5 (6/7/8) text"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLogFromReads: two reads make one log.
func TestLogFromReads(t *testing.T) {
	t.Parallel()
	value := func(i uint32) Value { return Value{ValueID: ValueID{1, i}} }
	record := func(offset int64, v Value) LogRecord { return LogRecord{Offset: offset, TxID: txA, Value: v} }
	committed := []LogRecord{record(0, value(0)), record(3, value(9)), record(4, value(4)), record(9, value(7))}
	uncommitted := []LogRecord{record(0, value(0)), record(1, value(1)), record(4, value(5)), record(6, value(6))}
	got := LogFromReads(bank0, Ends{Stable: 5, End: 7}, committed, uncommitted)
	want := []struct {
		offset int64
		index  uint32
		status Status
	}{
		{0, 0, StatusVisible}, {1, 1, StatusHidden}, {3, 9, StatusVisible}, {4, 4, StatusVisible}, {4, 5, StatusVisible},
		{6, 6, StatusOpen}, {9, 7, StatusVisible},
	}
	if len(got.Records) != len(want) {
		t.Fatalf("%+v", got.Records)
	}
	for i, w := range want {
		r := got.Records[i]
		if r.Offset != w.offset || r.Value.Index != w.index || r.Status != w.status || r.Sequence != NoSequence || r.TxID != txA {
			t.Errorf("record %d: %+v, want %+v", i, r, w)
		}
	}
}

// TestRecorderIsSafe: clients record at the same time, and numbers have no gaps.
func TestRecorderIsSafe(t *testing.T) {
	t.Parallel()
	clock := int64(0)
	rec := NewRecorder(func() int64 { clock++; return clock }) // under the recorder's mutex
	var passedOn []Event                                       // so is it
	rec.Tee(func(e Event) { passedOn = append(passedOn, e) })
	var all sync.WaitGroup
	for client := range uint32(8) {
		all.Go(func() {
			for range 50 {
				s := rec.Session(client)
				id := TxID{Producer: uint64(client) + 1, Epoch: s.Process().Incarnation, Number: 1}
				k := s.Init(fmt.Sprint(client))
				k.Done(id.Producer, id.Epoch, TxID{}, Unknown)
				x := s.Begin(fmt.Sprint(client), id)
				v := x.Send(bank0, 0, Source{})
				if v.Txn != x.Number() {
					t.Errorf("%+v in transaction %d", v, x.Number())
				}
				x.Abort().Done(NotCommitted, "")
				s.Reader(ReadCommitted).Position(bank0, 0)
			}
		})
	}
	all.Wait()
	events := rec.Events()
	if r := Check(&History{Events: events}); r.Total != 0 || r.Stats.Transactions != 400 {
		t.Errorf("%v, %+v", r.Violations, r.Stats)
	}
	if !reflect.DeepEqual(passedOn, events) {
		t.Errorf("%d events were passed on, of %d", len(passedOn), len(events))
	}
	for i := range events {
		if events[i].Time != int64(i)+1 {
			t.Fatalf("event %d at %d", i, events[i].Time)
		}
	}
}
