package compact

import (
	"crypto/sha256"

	"github.com/oncelog/oncelog/api/batch"
)

// MaxKeys is how many keys a pass may tell apart: about 100 MiB. A partition with
// more takes several passes.
const MaxKeys = 2 << 20

// digest stands for a key. Keys are chosen by clients, so nobody must be able to find
// two with one digest: the newer would delete the other.
type digest [16]byte

func digestOf(key []byte) (d digest) {
	sum := sha256.Sum256(key)
	copy(d[:], sum[:])
	return d
}

// newest is the offset of the newest record of a key, times two, and one more if
// that is a tombstone.
type newest uint64

func (n newest) offset() uint64  { return uint64(n) >> 1 }
func (n newest) tombstone() bool { return n&1 == 1 }

// Keys has the newest record of each key of a run of a partition. Make it with
// [NewKeys].
type Keys struct {
	newest map[digest]newest
	limit  int
	d      batch.Decoder
}

// NewKeys returns an empty Keys for at most limit keys, or for those of one batch if
// they are more; 0: [MaxKeys].
func NewKeys(limit int) *Keys {
	if limit <= 0 {
		limit = MaxKeys
	}
	return &Keys{newest: map[digest]newest{}, limit: limit}
}

// Room reports whether as many records more may be added.
func (k *Keys) Room(records int) bool {
	return len(k.newest) == 0 || len(k.newest)+records <= k.limit
}

// Add notes the first visible records of a batch at an offset. Batches come in the
// order of their offsets. An error says that the batch cannot be decoded.
func (k *Keys) Add(base uint64, visible int, data []byte, limits batch.Limits) error {
	if _, err := k.d.Reset(data, limits); err != nil {
		return err
	}
	for i := 0; i < visible && k.d.Next(); i++ {
		r := k.d.Record()
		if r.Key == nil {
			continue
		}
		n := newest(base+uint64(i)) << 1
		if r.Value == nil {
			n |= 1
		}
		k.newest[digestOf(r.Key)] = n
	}
	return k.d.Err()
}

// find returns the newest record of a key that was added.
func (k *Keys) find(key []byte) (newest, bool) {
	n, ok := k.newest[digestOf(key)]
	return n, ok
}
