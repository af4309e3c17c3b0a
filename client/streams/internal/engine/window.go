package engine

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// windowKeyVersion is the first byte of a key in a window store.
const windowKeyVersion = 1

// windowHeader is the version and the start.
const windowHeader = 1 + 8

// WindowKey returns the key of a window: the version, its start in milliseconds
// with the sign bit turned over, so that bytes are in the order of times, and the
// key itself.
func WindowKey(start int64, key []byte) []byte {
	b := make([]byte, 0, windowHeader+len(key))
	b = append(b, windowKeyVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(start)^1<<63)
	return append(b, key...)
}

// windowFloor is the lowest key of windows that begin at a time.
func windowFloor(start int64) []byte { return WindowKey(start, nil) }

// SplitWindowKey is the reverse of WindowKey. The key is a part of b.
func SplitWindowKey(b []byte) (start int64, key []byte, err error) {
	switch {
	case len(b) < windowHeader:
		return 0, nil, errors.New("key of a window store: " + strconv.Itoa(len(b)) + " bytes, at least " + strconv.Itoa(windowHeader))
	case b[0] != windowKeyVersion:
		return 0, nil, errors.New("key of a window store: version " + strconv.Itoa(int(b[0])) + ", known is " + strconv.Itoa(windowKeyVersion))
	}
	return int64(binary.BigEndian.Uint64(b[1:]) ^ 1<<63), b[windowHeader:], nil
}
