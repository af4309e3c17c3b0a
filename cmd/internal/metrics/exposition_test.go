package metrics

import (
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/oncelog/oncelog/cmd/internal/limits"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/internal/clock"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files and docs/METRICS.md, instead of comparing with them")

// fakeStore has figures that no two metrics share.
type fakeStore struct{}

func (fakeStore) Metrics() raftstore.Metrics {
	bounds := []time.Duration{time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond}
	return raftstore.Metrics{
		Proposals: 101, Entries: 102, Applied: 103, Batches: 104, Syncs: 6,
		Fsync:         raftstore.Histogram{Bounds: bounds, Counts: []uint64{1, 4, 5}, Count: 6, Sum: 16 * time.Millisecond},
		Commit:        raftstore.Histogram{Bounds: bounds, Counts: []uint64{0, 2, 2}, Count: 2, Sum: 3500 * time.Microsecond},
		LeaderChanges: 105, Refused: raftstore.Refused{NotLeader: 106, Overloaded: 107, DiskLow: 108, Invalid: 109, Stopped: 110},
		MessagesSent: 111, FramesSent: 112, MessagesDropped: 113, MessagesReceived: 114, InboundDropped: 115,
		Writing: 30 * time.Millisecond, ReadRounds: 116, Checkpoints: 117, SnapshotsSent: 118, SnapshotsReceived: 119,
		SnapshotBytesSent: 120, SnapshotBytesReceived: 121,
	}
}

func (fakeStore) Disk() raftstore.Disk {
	return raftstore.Disk{FreeBytes: 1 << 30, MinFreeBytes: 256 << 20}
}

func group(id raftstore.GroupID, leader raftstore.NodeID) raftstore.Status {
	return raftstore.Status{
		ID: id, NodeID: 1, Leadership: raftstore.Leadership{Leader: leader, Term: 7, IsLeader: leader == 1, Ready: leader == 1},
		Commit: 201, Applied: 200, FirstIndex: 101, LastIndex: 202, QueuedBytes: 10,
	}
}

type fakeCoordinator struct{ lead bool }

func (f fakeCoordinator) Stats() coordinator.Stats {
	g := group(1, 1)
	st := coordinator.Stats{
		ClusterID: "0123456789abcdef", Group: &g, Committed: 301,
		Aborted:     map[string]uint64{"ADMIN": 302, "CLIENT": 303, "FENCED": 304, "SUPERSEDED": 305, "TIMEOUT": 306},
		EndsRefused: map[string]uint64{"CONFLICT": 307, "FENCED": 308},
		Markers:     map[string]uint64{"ALREADY": 309, "APPLIED": 310, "CONFLICT": 0, "MISSING_DATA": 0},
		NewIDs:      311, Takeovers: 312, Fenced: 313, IDsExpired: 314, MembersLost: 315, MarkerRequestsFailed: 316, PreparedTotal: 318,
		QuotasRefused: map[string]uint64{"transactional_ids": 317, "inits_per_second": 0},
	}
	if f.lead {
		st.Leader = &coordinator.LeaderStats{
			TransactionalIDs: 401, Open: []int{6, 5, 4, 3, 2, 1}, OldestOpen: 17 * time.Minute, Completing: 402, OldestCompleting: 1500 * time.Millisecond,
			PendingMarkers: 403, PendingMarkersByShard: []coordinator.PendingMarkers{{Shard: 3, Count: 400}, {Shard: 2, Count: 3}},
			Prepared: 9, OldestPrepared: 75 * time.Second,
			Groups: 404, Members: 405, Offsets: 406, Topics: 407, Partitions: 408, Shards: 409, Unserved: 1, Nodes: 5, Alive: 4, LowOnDisk: 2,
			Moves: 7, HeldUp: 3, OldestMove: 90 * time.Second, MoveLag: 410, LostReplicas: 6, Draining: 8,
		}
	}
	return st
}

type fakePartition struct{ groups, blocked int }

func (f fakePartition) Stats() partition.Stats {
	st := partition.Stats{
		ClusterID: "0123456789abcdef", Clock: clock.Offset{Ahead: -1500 * time.Millisecond, Error: 2 * time.Millisecond, Against: "the leader"}, Led: 1, HeartbeatAge: 250 * time.Millisecond,
		Batches:         map[string]uint64{"APPENDED": 501, "DUPLICATE": 502, "FENCED": 503},
		AppendedRecords: 504, AppendedBytes: 505, FetchResponses: 506, FetchedRecords: 507, FetchedBytes: 508,
		Markers:     map[string]uint64{"ALREADY": 509, "APPLIED": 510, "CONFLICT": 0, "MISSING_DATA": 0},
		EnlistQueue: 511, EnlistAnswers: map[string]uint64{"ACCEPTED": 512, "STRAY": 0}, EnlistFailures: 513,
		LogStartsMoved: 514, RelocatedBytes: 515, Partitions: 516, Producers: 517, Sequences: 518, StoredBytes: 519,
		OpenTransactions: 520, OldestOpen: 90 * time.Second, BlockedPartitions: 521, MaxLagRecords: 522, MaxLagAge: 89 * time.Second,
	}
	for i := range f.groups {
		st.Shards = append(st.Shards, group(raftstore.GroupID(i+1), raftstore.NodeID(i%3)))
	}
	for i := range f.blocked {
		st.Blocked = append(st.Blocked, partition.BlockedPartition{
			Topic: "orders", Partition: uint32(i), LagRecords: uint64(522 - i), LagAge: time.Duration(89-i) * time.Second, By: pstate.TxnRef{ProducerID: 9},
		})
	}
	return st
}

// testRegistry has a coordinator that leads, one that does not, and a partition node.
func testRegistry() *Registry {
	r := NewRegistry()
	r.Node(RoleCoordinator, 1, "v1.2.3").Coordinator(fakeCoordinator{lead: true}, fakeStore{})
	r.Node(RoleCoordinator, 2, "v1.2.3").Coordinator(fakeCoordinator{}, fakeStore{})
	r.Node(RolePartition, 1, "v1.2.3").Partition(fakePartition{groups: 3, blocked: 2}, fakeStore{})
	r.Node(RolePartition, 2, "v1.2.3").Limits(func() limits.Report {
		return limits.Report{
			Refused: map[string]uint64{"max_calls": 601, "send_timeout": 602},
			Used:    map[string]int64{"max_calls": 603}, Max: map[string]int64{"max_calls": 50_000},
		}
	})
	return r
}

// serve starts a server for a registry and returns its address.
func serve(t *testing.T, r *Registry) (*Server, string) {
	t.Helper()
	s, err := Listen("127.0.0.1:0", nil, r, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(func(err error) { t.Error(err) })
	t.Cleanup(func() { s.Close(context.Background()) })
	return s, "http://" + s.Address()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// golden compares a text with a file, or writes it.
func golden(t *testing.T, path, text string) {
	t.Helper()
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(text)) {
		t.Errorf("%s is not what this code says (go test ./cmd/internal/metrics -rewrite writes it):\n%s", path, text)
	}
}

func TestExposition(t *testing.T) {
	t.Parallel()
	_, url := serve(t, testRegistry())
	status, body := get(t, url+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	// Those of Go and of the process are not ours, and never the same.
	var ours strings.Builder
	for line := range strings.Lines(body) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, namespace+"_") {
			ours.WriteString(line)
		}
	}
	golden(t, "testdata/exposition.txt", ours.String())
	for _, s := range sections() {
		for _, m := range s.metrics {
			if !strings.Contains(body, "# TYPE "+m.name+" "+m.kind.String()+"\n") {
				t.Errorf("%s is in the table and was not shown as a %s", m.name, m.kind)
			}
		}
	}
}

// TestNamesFollowTheConventions is Prometheus' own linter.
func TestNamesFollowTheConventions(t *testing.T) {
	t.Parallel()
	problems, err := testutil.GatherAndLint(testRegistry().all)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// However much a node has, its figures stay few.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	r := NewRegistry()
	r.Node(RolePartition, 1, "v").Partition(fakePartition{groups: 5000, blocked: partition.MaxListedPartitions}, fakeStore{})
	families, err := r.all.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), namespace) {
			total += len(f.GetMetric())
			if n := len(f.GetMetric()); n > maxListedGroups {
				t.Errorf("%s has %d series", f.GetName(), n)
			}
		}
	}
	if limit := 5*maxListedGroups + 2*partition.MaxListedPartitions + 100; total > limit {
		t.Errorf("%d series, more than %d", total, limit)
	}
}

// A label that can take any value would fill Prometheus' memory.
func TestLabelsHaveFewValues(t *testing.T) {
	t.Parallel()
	few := []string{"version", "cluster_id", "group", "reason", "code", "kind", "answer", "age", "shard", "verdict", "result", "limit", "quota"}
	bounded := map[string]string{"topic": "partition.MaxListedPartitions", "partition": "partition.MaxListedPartitions"}
	for _, s := range sections() {
		for _, m := range s.metrics {
			for _, l := range m.labels {
				if !slices.Contains(few, l) && bounded[l] == "" {
					t.Errorf("%s has the label %s: say why it has few values, or what bounds it", m.name, l)
				}
			}
			if (m.kind == counter) != strings.HasSuffix(m.name, "_total") || !strings.HasSuffix(m.help, ".") {
				t.Errorf("%s is a %s: %q", m.name, m.kind, m.help)
			}
		}
	}
}
