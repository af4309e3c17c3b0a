package pebblestate

import (
	"encoding/binary"
	"fmt"

	"github.com/oncelog/oncelog/client/streams/state"
)

// formatVersion is the version of the keys and values below.
const formatVersion = 1

// formatKey is the row that has the version.
var formatKey = []byte("!")

// Rows of a state begin with its prefix: 's', the lengths of both names as uvarints
// before them, and the partition. No prefix begins with another one.
func idPrefix(id state.ID) []byte {
	b := []byte{'s'}
	for _, name := range []string{id.Application, id.Store} {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
	}
	return binary.BigEndian.AppendUint32(b, uint32(id.Partition))
}

// checkpointKey is the row of the checkpoint: the prefix and 'c'.
func checkpointKey(prefix []byte) []byte { return append(prefix[:len(prefix):len(prefix)], 'c') }

// dataKey is the row of an entry: the prefix, 'd', and its key. dataEnd is above
// all of them.
func dataKey(prefix, key []byte) []byte {
	return append(append(make([]byte, 0, len(prefix)+1+len(key)), append(prefix[:len(prefix):len(prefix)], 'd')...), key...)
}

func dataEnd(prefix []byte) []byte { return append(prefix[:len(prefix):len(prefix)], 'e') }

// A checkpoint is the topic as a uvarint, and the offset and the stream time as
// varints.
func encodeCheckpoint(c state.Checkpoint) []byte {
	b := binary.AppendUvarint(nil, c.Topic)
	b = binary.AppendVarint(b, c.Next)
	return binary.AppendVarint(b, c.StreamTime)
}

// decodeCheckpoint is the reverse; no bytes are the zero checkpoint.
func decodeCheckpoint(b []byte) (c state.Checkpoint, err error) {
	if b == nil {
		return c, nil
	}
	var n [3]int
	c.Topic, n[0] = binary.Uvarint(b)
	if n[0] > 0 {
		c.Next, n[1] = binary.Varint(b[n[0]:])
	}
	if n[1] > 0 {
		c.StreamTime, n[2] = binary.Varint(b[n[0]+n[1]:])
	}
	if n[2] <= 0 || n[0]+n[1]+n[2] != len(b) {
		return state.Checkpoint{}, fmt.Errorf("the checkpoint is damaged: %x", b)
	}
	return c, nil
}
