package pebblestate

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/oncelog/oncelog/client/streams/state"
	"github.com/oncelog/oncelog/client/streams/state/statetest"
	"github.com/oncelog/oncelog/internal/golden"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, fs vfs.FS) *Backend {
	t.Helper()
	b, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBackend(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := open(t, fs)
	t.Cleanup(func() { must(t, b.Close()) })
	statetest.Run(t, b, func() state.Backend {
		must(t, b.Close())
		b = open(t, fs)
		return b
	})
}

// After a power cut a state is as it was after some change, with the checkpoint of
// that change.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, percent := range []int{0, 30, 100} {
		fs := vfs.NewCrashableMem()
		b := open(t, fs)
		id := state.ID{Application: "a", Store: "s", Partition: 1}
		s, err := b.Open(id)
		must(t, err)
		big := bytes.Repeat([]byte("x"), 10_000)
		for n := range int64(500) {
			must(t, s.Apply(state.Changes{
				Entries:    []state.Entry{{Key: []byte("n"), Value: []byte{byte(n), byte(n >> 8)}}, {Key: []byte{byte(n)}, Value: big}},
				Checkpoint: state.Checkpoint{Topic: 1, Next: n + 1},
			}))
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, uint64(percent)))})
		must(t, b.Close())
		b = open(t, after)
		s, err = b.Open(id)
		must(t, err)
		at, err := s.Get([]byte("n"))
		must(t, err)
		next := s.Checkpoint().Next
		if next > 0 && (len(at) != 2 || int64(at[0])+int64(at[1])<<8 != next-1) || next == 0 && at != nil {
			t.Errorf("%d %% kept: the state is %v, its checkpoint %d", percent, at, next)
		}
		must(t, b.Close())
	}
}

// TestFormat: the rows of older versions are read.
func TestFormat(t *testing.T) {
	t.Parallel()
	id := state.ID{Application: "word-count", Store: "words", Partition: 258}
	at := state.Checkpoint{Topic: 300, Next: 7, StreamTime: -1}
	fs := vfs.NewMem()
	b := open(t, fs)
	s, err := b.Open(id)
	must(t, err)
	must(t, s.Apply(state.Changes{Entries: []state.Entry{{Key: []byte("be"), Value: []byte{2}}}, Checkpoint: at}))
	var rows []golden.Sample
	it, err := b.db.NewIter(nil)
	must(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		name := map[byte]string{'!': "format", 'c': "checkpoint", 'd': "entry"}[it.Key()[min(len(it.Key())-1, len(idPrefix(id)))]]
		rows = append(rows, golden.Sample{Name: name + ":key", Bytes: bytes.Clone(it.Key())}, golden.Sample{Name: name + ":value", Bytes: bytes.Clone(it.Value())})
	}
	must(t, it.Close())
	must(t, b.Close())
	golden.Check(t, "streams-state", formatVersion, rows)

	db, err := pebble.Open("old", &pebble.Options{FS: fs, FormatMajorVersion: engineVersion})
	must(t, err)
	old := golden.Read(t, "streams-state", 1)
	for i := 0; i < len(old); i += 2 {
		must(t, db.Set(old[i].Bytes, old[i+1].Bytes, pebble.Sync))
	}
	must(t, db.Close())
	b, err = Open(Config{Dir: "old", FS: fs})
	must(t, err)
	s, err = b.Open(id)
	must(t, err)
	v, err := s.Get([]byte("be"))
	must(t, err)
	if !bytes.Equal(v, []byte{2}) || s.Checkpoint() != at {
		t.Errorf("read %v at %+v", v, s.Checkpoint())
	}
	must(t, b.db.Set(formatKey, []byte{formatVersion + 1}, pebble.Sync))
	must(t, b.Close())
	if _, err := Open(Config{Dir: "old", FS: fs}); err == nil || !strings.Contains(err.Error(), "old has version") {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzCheckpoint(f *testing.F) {
	f.Add(encodeCheckpoint(state.Checkpoint{Topic: math.MaxUint64, Next: math.MaxInt64, StreamTime: math.MinInt64}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCheckpoint(b)
		if err != nil || b == nil {
			return
		}
		if again, err := decodeCheckpoint(encodeCheckpoint(c)); err != nil || again != c {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}

func TestDirIsRequired(t *testing.T) {
	t.Parallel()
	if _, err := Open(Config{}); err == nil {
		t.Error("opened nowhere")
	}
}
