package streams

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Serde turns values into the bytes of a record's key or value, and back. Both
// functions must be safe for concurrent use, and Encode must give equal keys equal
// bytes.
type Serde[T any] struct {
	// Encode returns the bytes of a value; nil: the record has none. It must not
	// keep or share memory that is changed later.
	Encode func(v T) ([]byte, error)
	// Decode is the reverse. It gets nil for a record that has no such part, and must
	// neither modify b nor return a part of it that is modified.
	Decode func(b []byte) (T, error)
}

func (s Serde[T]) complete() bool { return s.Encode != nil && s.Decode != nil }

// errAbsent is the answer of most serdes to a record without a key or a value.
var errAbsent = errors.New("the record has none: use streams.None for topics without, or streams.Optional for both")

// String is text as it is.
func String() Serde[string] {
	return Serde[string]{
		Encode: func(v string) ([]byte, error) { return []byte(v), nil },
		Decode: func(b []byte) (string, error) {
			if b == nil {
				return "", errAbsent
			}
			return string(b), nil
		},
	}
}

// Bytes are bytes as they are; nil: the record has none.
func Bytes() Serde[[]byte] {
	same := func(b []byte) ([]byte, error) { return b, nil }
	return Serde[[]byte]{Encode: same, Decode: same}
}

// Int64 is eight bytes, the highest first, as Kafka's LongSerializer writes them.
func Int64() Serde[int64] {
	return Serde[int64]{
		Encode: func(v int64) ([]byte, error) { return binary.BigEndian.AppendUint64(nil, uint64(v)), nil },
		Decode: func(b []byte) (int64, error) {
			u, err := eight(b)
			return int64(u), err
		},
	}
}

// Float64 is eight bytes of IEEE 754, the highest first, as Kafka's DoubleSerializer
// writes them.
func Float64() Serde[float64] {
	return Serde[float64]{
		Encode: func(v float64) ([]byte, error) {
			return binary.BigEndian.AppendUint64(nil, math.Float64bits(v)), nil
		},
		Decode: func(b []byte) (float64, error) {
			u, err := eight(b)
			return math.Float64frombits(u), err
		},
	}
}

func eight(b []byte) (uint64, error) {
	switch {
	case b == nil:
		return 0, errAbsent
	case len(b) != 8:
		return 0, fmt.Errorf("%d bytes, want 8", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// JSON is the text of encoding/json.
func JSON[T any]() Serde[T] {
	return Serde[T]{
		Encode: func(v T) ([]byte, error) { return json.Marshal(v) },
		Decode: func(b []byte) (v T, err error) {
			if b == nil {
				return v, errAbsent
			}
			return v, json.Unmarshal(b, &v)
		},
	}
}

// Nothing is the type of keys or values that are not there.
type Nothing struct{}

// None is for records without a key, or without a value. Those that have one lose
// it.
func None() Serde[Nothing] {
	return Serde[Nothing]{
		Encode: func(Nothing) ([]byte, error) { return nil, nil },
		Decode: func([]byte) (Nothing, error) { return Nothing{}, nil },
	}
}

// Optional is a serde of values that may be missing: nil is a record without, such
// as the tombstone of a table.
func Optional[T any](s Serde[T]) Serde[*T] {
	return Serde[*T]{
		Encode: func(v *T) ([]byte, error) {
			if v == nil {
				return nil, nil
			}
			return s.Encode(*v)
		},
		Decode: func(b []byte) (*T, error) {
			if b == nil {
				return nil, nil
			}
			v, err := s.Decode(b)
			if err != nil {
				return nil, err
			}
			return &v, nil
		},
	}
}
