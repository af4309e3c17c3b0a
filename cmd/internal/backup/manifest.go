package backup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/internal/datafile"
)

// ManifestFile is the name of the file that makes a directory a backup.
const ManifestFile = "MANIFEST"

const (
	manifestVersion = 1
	maxTextBytes    = 256
)

var manifestFormat = datafile.Format{
	File: ManifestFile, What: "manifest of a backup", Magic: "olbackm", First: manifestVersion, Last: manifestVersion,
}

// Manifest says what a backup has.
type Manifest struct {
	// ID was drawn for it; ClusterID is the cluster that it is of, Program the version
	// of the program that wrote it.
	ID, ClusterID, Program string
	// TakenAt is when its cut was made, ms since the Unix epoch; Held how long answers
	// of the coordinators were held back for it, in microseconds.
	TakenAt, Held int64
	// Coordinator is the coordinators' part.
	Coordinator Part
	// Shards are ascending by id.
	Shards []Shard
}

// Shard is a shard's part.
type Shard struct {
	Part
	ID uint64
	// Index and Term name the last entry of its log that is there.
	Index, Term uint64
	// Partitions are ascending by id.
	Partitions []Partition
}

// Partition says which records of a partition there are.
type Partition struct {
	ID    uint64
	Topic string
	Index uint32
	// Start is the first offset, End the one after the last. Below Stable nothing is
	// undecided.
	Start, Stable, End uint64
}

// Bytes is the size of all parts.
func (m Manifest) Bytes() uint64 {
	n := m.Coordinator.Bytes
	for _, s := range m.Shards {
		n += s.Bytes
	}
	return n
}

func coordinatorPath(dir string) string { return filepath.Join(dir, "coordinator") }

func shardPath(dir string, id uint64) string { return filepath.Join(dir, fmt.Sprintf("shard-%d", id)) }

func (p Part) append(b []byte) []byte {
	return codec.AppendBytes(codec.AppendUvarint(b, p.Bytes), p.Sum[:])
}

func readPartOf(r *codec.Reader) (p Part) {
	p.Bytes = r.Uvarint()
	if sum := r.Bytes(len(p.Sum)); copy(p.Sum[:], sum) != len(p.Sum) {
		r.Fail(errors.New("a sum of another length"))
	}
	return p
}

func (m Manifest) encode() []byte {
	var b []byte
	for _, s := range []string{m.ID, m.ClusterID, m.Program} {
		b = codec.AppendString(b, s)
	}
	b = codec.AppendVarint(codec.AppendVarint(b, m.TakenAt), m.Held)
	b = m.Coordinator.append(b)
	b = codec.AppendUvarint(b, uint64(len(m.Shards)))
	for _, s := range m.Shards {
		b = s.append(b)
		for _, v := range []uint64{s.ID, s.Index, s.Term, uint64(len(s.Partitions))} {
			b = codec.AppendUvarint(b, v)
		}
		for _, p := range s.Partitions {
			b = codec.AppendString(codec.AppendUvarint(b, p.ID), p.Topic)
			for _, v := range []uint64{uint64(p.Index), p.Start, p.Stable, p.End} {
				b = codec.AppendUvarint(b, v)
			}
		}
	}
	return b
}

func decodeManifest(b []byte) (Manifest, error) {
	r := codec.NewReader(b)
	m := Manifest{ID: r.String(maxTextBytes), ClusterID: r.String(maxTextBytes), Program: r.String(maxTextBytes)}
	m.TakenAt, m.Held = r.Varint(), r.Varint()
	m.Coordinator = readPartOf(r)
	last := uint64(0)
	for range r.Count(catalog.MaxShards) {
		s := Shard{Part: readPartOf(r), ID: r.Uvarint(), Index: r.Uvarint(), Term: r.Uvarint()}
		for range r.Count(catalog.MaxPartitions) {
			p := Partition{ID: r.Uvarint(), Topic: r.String(catalog.MaxTopicNameBytes)}
			index := r.Uvarint()
			if p.Index = uint32(index); index > math.MaxUint32 {
				r.Fail(errors.New("an index above its range"))
			}
			p.Start, p.Stable, p.End = r.Uvarint(), r.Uvarint(), r.Uvarint()
			s.Partitions = append(s.Partitions, p)
		}
		if s.ID <= last {
			r.Fail(errors.New("shards out of order"))
		}
		last = s.ID
		m.Shards = append(m.Shards, s)
	}
	return m, r.Close()
}

// Describe reads what a backup says of itself.
func Describe(dir string) (Manifest, error) {
	files := datafile.Directory(dir)
	payload, _, ok, err := manifestFormat.Read(files)
	switch {
	case errors.Is(err, datafile.ErrDamaged):
		return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	case err != nil:
		return Manifest{}, err
	case !ok:
		if _, err := os.Stat(dir); err != nil {
			return Manifest{}, err
		}
		return Manifest{}, damaged(datafile.PathOf(files, ManifestFile), "the file is missing: %s is no backup, or one that was not finished", dir)
	}
	m, err := decodeManifest(payload)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, manifestFormat.Damaged(files, err))
	}
	return m, nil
}
