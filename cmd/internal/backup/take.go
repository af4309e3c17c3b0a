package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
)

// Source is where a backup comes from; *client.Admin is one.
type Source interface {
	CreateBackup(ctx context.Context, req *oncelogv1.CreateBackupRequest, take func(*oncelogv1.CreateBackupResponse) error) error
	ReadShardBackup(ctx context.Context, backup string, shard *oncelogv1.ShardCut, take func(data []byte) error) error
}

// Options of Take.
type Options struct {
	// HoldMillis is CreateBackupRequest.hold_ms.
	HoldMillis int64
	// Program is the version of the program that takes it.
	Program string
	// Progress, if there, is told of every piece that has come, from any goroutine.
	Progress func(bytes int)
}

// ErrNotEmpty says that there is something in the directory that is to be made.
var ErrNotEmpty = errors.New("the directory is not empty")

// Take takes a backup into a directory that does not exist or is empty. It is written
// under another name first, so that what has the name is whole; after an error nothing
// is left.
func Take(ctx context.Context, from Source, dir string, o Options) (_ Manifest, err error) {
	if o.Progress == nil {
		o.Progress = func(int) {}
	}
	made, err := begin(dir)
	if err != nil {
		return Manifest{}, err
	}
	defer func() { err = errors.Join(err, made.end()) }()
	t := &taking{from: from, dir: made.tmp, o: o}
	if err := t.run(ctx); err != nil {
		return Manifest{}, err
	}
	if err := manifestFormat.Write(datafile.Directory(made.tmp), t.m.encode()); err != nil {
		return Manifest{}, err
	}
	return t.m, made.finish()
}

// taking is a backup that is being taken.
type taking struct {
	from     Source
	dir      string
	o        Options
	m        Manifest
	contents coordinator.Contents
}

func (t *taking) run(ctx context.Context) error {
	cut, err := t.coordinators(ctx)
	if err != nil {
		return err
	}
	t.m.ID, t.m.ClusterID, t.m.Program = cut.GetBackupId(), cut.GetClusterId(), t.o.Program
	t.m.TakenAt, t.m.Held = cut.GetTakenAtMs(), cut.GetHeldUs()
	if err := matches(t.contents, shardIDs(cut)); err != nil {
		return err
	}
	// One shard of a node at a time: what they send is bounded by node.
	byNode := map[uint64][]*oncelogv1.ShardCut{}
	for _, s := range cut.GetShards() {
		byNode[s.GetNodeId()] = append(byNode[s.GetNodeId()], s)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		all sync.WaitGroup
		mu  sync.Mutex
	)
	for _, shards := range byNode {
		all.Go(func() {
			for _, cut := range shards {
				s, err := t.shard(ctx, cut)
				if err != nil {
					cancel(fmt.Errorf("shard %d on node %d: %w", cut.GetShardId(), cut.GetNodeId(), err))
					return
				}
				mu.Lock()
				t.m.Shards = append(t.m.Shards, s)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.SortFunc(t.m.Shards, func(a, b Shard) int { return cmp.Compare(a.ID, b.ID) })
	return context.Cause(ctx)
}

func shardIDs(cut *oncelogv1.BackupCut) (ids []uint64) {
	for _, s := range cut.GetShards() {
		ids = append(ids, s.GetShardId())
	}
	return ids
}

// coordinators has the cut made, and writes the coordinators' part.
func (t *taking) coordinators(ctx context.Context) (cut *oncelogv1.BackupCut, err error) {
	w, err := createPart(coordinatorPath(t.dir))
	if err != nil {
		return nil, err
	}
	var state []byte
	if err := t.from.CreateBackup(ctx, &oncelogv1.CreateBackupRequest{HoldMs: t.o.HoldMillis}, func(res *oncelogv1.CreateBackupResponse) error {
		if cut == nil {
			cut = res.GetCut()
			return nil
		}
		t.o.Progress(len(res.GetData()))
		state = append(state, res.GetData()...)
		return w.add(res.GetData())
	}); err != nil {
		w.abandon()
		return nil, err
	}
	if t.m.Coordinator, err = w.close(); err != nil {
		return nil, err
	}
	if uint64(len(state)) != cut.GetCoordinatorBytes() {
		return nil, fmt.Errorf("the coordinators' part has %d bytes, and %d were promised", len(state), cut.GetCoordinatorBytes())
	}
	t.contents, err = coordinator.OpenBackup(state)
	return cut, err
}

// shard writes a shard's part.
func (t *taking) shard(ctx context.Context, cut *oncelogv1.ShardCut) (Shard, error) {
	s := Shard{ID: cut.GetShardId(), Index: cut.GetIndex(), Term: cut.GetTerm()}
	w, err := createPart(shardPath(t.dir, s.ID))
	if err != nil {
		return s, err
	}
	reader := newShardReader(s.Index)
	if err := t.from.ReadShardBackup(ctx, t.m.ID, cut, func(data []byte) error {
		if len(data) == 0 {
			return nil // the end of what was full before
		}
		t.o.Progress(len(data))
		if err := reader.Add(data); err != nil {
			return err
		}
		return w.add(data)
	}); err != nil {
		w.abandon()
		return s, err
	}
	if s.Part, err = w.close(); err != nil {
		return s, err
	}
	s.Partitions, err = reader.partitions(t.contents)
	return s, err
}

// matches reports whether there is a part of each shard.
func matches(c coordinator.Contents, shards []uint64) error {
	var want []uint64
	for _, s := range c.Shards {
		want = append(want, s.ID)
	}
	if !slices.Equal(want, shards) {
		return fmt.Errorf("the cluster has the shards %v, and the backup %v: %w", want, shards, ErrDamaged)
	}
	return nil
}

// shardReader checks a shard's part as it comes.
type shardReader struct {
	raftstore.BackupReader
	// needed are how many bytes of each entry rows are about, in pages by index.
	needed map[uint64]*[neededPage]uint32
	rows   int // entries that rows are about and that have not come
}

const neededPage = 4096

func newShardReader(index uint64) *shardReader {
	r := &shardReader{needed: map[uint64]*[neededPage]uint32{}}
	r.Index, r.Row, r.Entry = index, r.row, r.entry
	return r
}

func (r *shardReader) row(key, value []byte) error {
	at, size, err := partition.RowEntry(key, value)
	switch {
	case err != nil:
		return err
	case at < r.First() || at > r.Index || size == 0:
		return fmt.Errorf("a row is about entry %d, and there are %d to %d: %w", at, r.First(), r.Index, ErrDamaged)
	}
	page := r.needed[at/neededPage]
	if page == nil {
		page = new([neededPage]uint32)
		r.needed[at/neededPage] = page
	}
	if page[at%neededPage] == 0 {
		r.rows++
	}
	page[at%neededPage] = max(page[at%neededPage], size)
	return nil
}

func (r *shardReader) entry(at uint64, data []byte) error {
	page := r.needed[at/neededPage]
	if page == nil || page[at%neededPage] == 0 {
		return nil
	}
	if need := page[at%neededPage]; uint64(len(data)) < uint64(need) {
		return fmt.Errorf("entry %d has %d bytes, and a row is about %d: %w", at, len(data), need, ErrDamaged)
	}
	r.rows--
	return nil
}

// contents checks that all is there.
func (r *shardReader) contents() (partition.Contents, error) {
	checkpoint, err := r.Close()
	if err != nil {
		return partition.Contents{}, err
	}
	if r.rows > 0 {
		return partition.Contents{}, fmt.Errorf("rows are about %d entries that are missing: %w", r.rows, ErrDamaged)
	}
	return partition.OpenCheckpoint(checkpoint)
}

// partitions returns what there is of the partitions that the cluster has.
func (r *shardReader) partitions(c coordinator.Contents) ([]Partition, error) {
	contents, err := r.contents()
	if err != nil {
		return nil, err
	}
	topics := map[uint64]Partition{}
	for _, s := range c.Shards {
		for _, p := range s.Partitions {
			topics[p.ID] = Partition{ID: p.ID, Topic: p.TopicName, Index: p.Index}
		}
	}
	var out []Partition
	for _, p := range contents.Partitions {
		// One that the catalogue does not have was deleted, and the shard is yet to hear.
		if known, ok := topics[p.ID]; ok {
			known.Start, known.Stable, known.End = p.Start, uint64(p.Stable), uint64(p.Applied)
			out = append(out, known)
		}
	}
	return out, nil
}

// making is a directory that is being made under another name.
type making struct {
	dir, tmp string
	done     bool
}

// begin refuses a directory in which there is something.
func begin(dir string) (*making, error) {
	m := &making{dir: filepath.Clean(dir)}
	m.tmp = m.dir + ".partial"
	switch entries, err := os.ReadDir(m.dir); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case len(entries) > 0:
		return nil, fmt.Errorf("%s: %w", m.dir, ErrNotEmpty)
	}
	if err := os.MkdirAll(filepath.Dir(m.dir), 0o755); err != nil {
		return nil, err
	}
	err := os.Mkdir(m.tmp, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there: another process makes it, or one that was interrupted did; then delete it", m.tmp)
	}
	return m, err
}

// finish gives the directory its name.
func (m *making) finish() error {
	if err := syncDir(m.tmp); err != nil {
		return err
	}
	if err := os.Remove(m.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // somebody has put something into it
	}
	if err := os.Rename(m.tmp, m.dir); err != nil {
		return err
	}
	m.done = true
	return syncDir(filepath.Dir(m.dir))
}

// end removes what was not finished.
func (m *making) end() error {
	if m.done {
		return nil
	}
	return os.RemoveAll(m.tmp)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
