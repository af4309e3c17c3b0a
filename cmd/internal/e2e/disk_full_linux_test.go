package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// volume is a file system of its own, small enough to be filled.
type volume struct{ dir string }

// volumeBytes is how large it is.
const volumeBytes = 192 << 20

// newVolume mounts one, or skips the test where that is not allowed.
func newVolume(t *testing.T) volume {
	t.Helper()
	v := volume{filepath.Join(t.TempDir(), "volume")}
	if err := os.Mkdir(v.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", v.dir, "tmpfs", 0, fmt.Sprintf("size=%d", volumeBytes)); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(v.dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return v
}

// data is the data directory of the node that is to live there.
func (v volume) data() string { return filepath.Join(v.dir, "data") }

// another is the file of another program, which takes the space.
func (v volume) another() string { return filepath.Join(v.dir, "another-program") }

func (v volume) free(t *testing.T) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(v.dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// fill has another program take the space, but for so much.
func (v volume) fill(t *testing.T, leave int64) {
	t.Helper()
	f, err := os.OpenFile(v.another(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := int64(0); ; {
		free := v.free(t) - leave
		if free <= 0 {
			return
		}
		// The node takes space as well: what was free a moment ago may be gone.
		if err := syscall.Fallocate(int(f.Fd()), 0, size, free); err == nil {
			size += free
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

func (v volume) empty(t *testing.T) {
	t.Helper()
	if err := os.Remove(v.another()); err != nil {
		t.Fatal(err)
	}
}

// clusterOn starts one node of each role, each on its volume.
func clusterOn(t *testing.T, minFree string) (*world, map[cluster.Role]volume) {
	t.Helper()
	volumes := map[cluster.Role]volume{cluster.Coordinator: newVolume(t), cluster.Partition: newVolume(t)}
	w := ownCluster(t, cluster.Config{
		Coordinators: 1, Partitions: 1, Env: []string{"ONCELOG_MIN_FREE_BYTES=" + minFree},
		Wire: func(nodes []*cluster.Node) (map[*cluster.Node][]string, error) {
			env := map[*cluster.Node][]string{}
			for _, n := range nodes {
				env[n] = []string{"ONCELOG_DATA_DIR=" + volumes[n.Role].data()}
			}
			return env, nil
		},
	})
	return w, volumes
}

// Another program takes the space of a node's disk down to below the low-water mark:
// the node stops to write before its disk is full, says so to whoever asks it and to
// whoever writes, still answers what needs no space, and goes on by itself when there is
// space again.
func TestLowDiskStopsWritesUntilThereIsSpace(t *testing.T) {
	if testing.Short() {
		t.Skip("fills disks")
	}
	t.Parallel()
	w, volumes := clusterOn(t, "32MiB")
	c := w.client(t)
	topic := w.topic(t, "in", 1)
	p := w.initProducer(t, unique(t, "id"))
	number := uint64(0)
	// Without repetitions: a refusal is to be seen.
	write := map[cluster.Role]func() error{
		cluster.Coordinator: func() error {
			cc := w.conn(t, w.Node(cluster.Coordinator, 1).Client)
			_, err := oncelogv1.NewTransactionServiceClient(cc).InitProducer(withPatience(t), &oncelogv1.InitProducerRequest{TransactionalId: unique(t, "id")})
			return err
		},
		cluster.Partition: func() error {
			cc := w.conn(t, w.Node(cluster.Partition, 1).Client)
			res, err := oncelogv1.NewLogServiceClient(cc).Append(withPatience(t), p.append(number+1, partition(topic, 0), 0, "value"))
			if err != nil {
				return err
			}
			if err := asError(res.GetResults()[0].GetError()); err != nil {
				return err
			}
			number++
			_, err = w.endTransaction(t, withPatience(t), p.end(number, true, partition(topic, 0), 1))
			return err
		},
	}
	committed := 0
	for _, role := range []cluster.Role{cluster.Partition, cluster.Coordinator} {
		n := w.Node(role, 1)
		alarm := func(want bool) {
			t.Helper()
			eventually(t, fmt.Sprintf("%s says that its disk is low: %t", n, want), func() error {
				st, err := n.Status(withPatience(t))
				if err == nil && st.GetDisk().GetLow() != want {
					err = fmt.Errorf("disk %v", st.GetDisk())
				}
				return err
			})
			d, err := c.Admin().Diagnostics(withPatience(t), n.Client)
			line := fmt.Sprintf("oncelog_disk_low{node_id=\"1\",role=%q} %d", role, map[bool]int{true: 1}[want])
			if err != nil || !strings.Contains(d.GetMetrics(), line) {
				t.Errorf("%v, or the metrics of %s do not have %s", err, n, line)
			}
		}
		if err := write[cluster.Partition](); err != nil {
			t.Fatal(err)
		}
		committed++
		volumes[role].fill(t, 8<<20)
		alarm(true)
		err := write[role]()
		wantCode(t, n.String()+" without space", err, oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED)
		if err == nil || !strings.Contains(err.Error(), "min_free_bytes; make room") {
			t.Errorf("the refusal says %v", err)
		}
		if got := w.readCommitted(t, c, topic); len(got) != committed {
			t.Errorf("%d records can be read, %d were committed", len(got), committed)
		}
		volumes[role].empty(t)
		alarm(false)
		if err := write[role](); err != nil {
			t.Errorf("%s with space again: %v", n, err)
		}
		if role == cluster.Partition {
			committed++
		}
	}
	if got := w.readCommitted(t, c, topic); len(got) != committed {
		t.Errorf("%d records, %d were committed", len(got), committed)
	}
}

// Another program takes all the space at once, and no low-water mark is between: the
// node ends at the write that does not fit, and says why, and so does its next start.
// When there is space again it has everything that was acknowledged, once.
func TestFullDiskStopsTheNodeAndLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("fills disks")
	}
	for _, role := range []cluster.Role{cluster.Partition, cluster.Coordinator} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			w, volumes := clusterOn(t, "0")
			n := w.Node(role, 1)
			topic := w.topic(t, "in", 1)
			l := startWriter(t, w, topic)
			l.awaitSome(t)
			volumes[role].fill(t, 0)
			ended := func(when string) {
				t.Helper()
				eventually(t, n.String()+" ends "+when, func() error {
					if n.Exited() == nil {
						return errors.New("it runs")
					}
					return nil
				})
				if err := n.Kill(); !errors.Is(err, os.ErrProcessDone) {
					t.Errorf("%s ended, and to kill it: %v", n, err)
				}
				if text := n.LogTail(); !strings.Contains(text, syscall.ENOSPC.Error()) {
					t.Errorf("%s does not say why it ended %s:\n%s", n, when, text)
				}
			}
			ended("at a write that does not fit")
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
			ended("at a start without space")
			volumes[role].empty(t)
			w.startAgain(t, n)
			l.awaitSome(t)
			acknowledged := l.stop()
			seen := map[string]int{}
			c := w.client(t)
			eventually(t, "everything is decided", func() error {
				d, err := c.Admin().DescribeCluster(withPatience(t))
				if err == nil && d.GetOpenTransactions()+d.GetOwedMarkers() > 0 {
					err = fmt.Errorf("%d open transactions, %d owed markers", d.GetOpenTransactions(), d.GetOwedMarkers())
				}
				return err
			})
			for _, v := range w.readCommitted(t, c, topic) {
				seen[v]++
			}
			for _, v := range acknowledged {
				if seen[v] == 0 {
					t.Errorf("%s was acknowledged, and is lost", v)
				}
			}
			for v, times := range seen {
				if times > 1 {
					t.Errorf("%s is there %d times", v, times)
				}
			}
		})
	}
}

// writer commits one record after another, and knows which were acknowledged.
type writer struct {
	end  chan struct{} // closed when no other transaction is to begin
	done chan struct{}
	mu   sync.Mutex
	acks []string
}

func startWriter(t *testing.T, w *world, topic string) *writer {
	t.Helper()
	p := producer(t, w.client(t), unique(t, "writer"))
	l := &writer{end: make(chan struct{}), done: make(chan struct{})}
	ctx := withPatience(t)
	padding := strings.Repeat("x", 32<<10) // so that a write does not fit soon
	go func() {
		defer close(l.done)
		for i := 0; ctx.Err() == nil; i++ {
			select {
			case <-l.end:
				return
			default:
			}
			value := fmt.Sprintf("%d %s", i, padding)
			err := p.Transact(ctx, func(tx *client.Tx) error {
				return tx.Send(ctx, &client.Record{Topic: topic, Value: []byte(value)})
			})
			if err == nil {
				l.mu.Lock()
				l.acks = append(l.acks, value)
				l.mu.Unlock()
			}
		}
	}()
	return l
}

// awaitSome returns when more was acknowledged than before.
func (l *writer) awaitSome(t *testing.T) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acks)
	}
	before := count()
	eventually(t, "the writer goes on", func() error {
		if n := count(); n < before+3 {
			return fmt.Errorf("%d more were acknowledged", n-before)
		}
		return nil
	})
}

// stop ends the writer behind the transaction that is under way, which would else be
// open until it times out, and returns what was acknowledged.
func (l *writer) stop() []string {
	close(l.end)
	<-l.done
	return l.acks
}
