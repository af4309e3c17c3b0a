package history

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

var values = []Value{
	{},
	{ValueID: ValueID{Txn: 1}, Client: 1},
	{ValueID: ValueID{Txn: math.MaxUint64, Index: math.MaxUint32}, Client: math.MaxUint32, Partition: math.MaxInt32, Amount: math.MinInt64},
	{ValueID: ValueID{Txn: 300, Index: 7}, Client: 12, Partition: 3, Amount: -40, Source: Source{Known: true, Partition: 2, Offset: 1 << 40}},
}

func TestValueRoundTrip(t *testing.T) {
	t.Parallel()
	for _, v := range values {
		for _, size := range []int{-1, 0, 1, 20, 100, 4096, MaxValue, MaxValue + 1000} {
			b := v.Encode(size)
			if len(b) < min(size, MaxValue) || len(b) > max(size, 64) || len(b) > MaxValue {
				t.Errorf("%+v for %d bytes has %d", v, size, len(b))
			}
			got, err := DecodeValue(b)
			if err != nil || got != v {
				t.Errorf("%+v in %d bytes became %+v, %v", v, size, got, err)
			}
		}
	}
	if n := len(values[1].Encode(0)); n > 12 {
		t.Errorf("a small value takes %d bytes", n)
	}
}

// TestValueDamage: no byte can change unnoticed.
func TestValueDamage(t *testing.T) {
	t.Parallel()
	for _, v := range values {
		b := v.Encode(40)
		for i := range b {
			bad := bytes.Clone(b)
			bad[i] ^= 0x10
			if got, err := DecodeValue(bad); !errors.Is(err, ErrValue) {
				t.Errorf("byte %d of %+v changed, and became %+v, %v", i, v, got, err)
			}
		}
		for i := range b {
			if _, err := DecodeValue(b[:i]); !errors.Is(err, ErrValue) {
				t.Errorf("%d of %d bytes: %v", i, len(b), err)
			}
		}
	}
	// A pad of another value, under a checksum that fits.
	a, b := values[1].Encode(64), values[3].Encode(64)
	copy(a[40:60], b[40:60])
	if _, err := DecodeValue(checksummed(a[:60])); !errors.Is(err, ErrValue) {
		t.Errorf("the pad of another value: %v", err)
	}
}

func FuzzDecodeValue(f *testing.F) {
	for _, v := range values {
		b := v.Encode(50)
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := checksummed(body)
		v, err := DecodeValue(b)
		if err == nil {
			if again, err := DecodeValue(v.Encode(len(b))); err != nil || again != v {
				t.Errorf("%+v became %+v, %v", v, again, err)
			}
		}
	})
}
