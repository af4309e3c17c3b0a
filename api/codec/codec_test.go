package codec_test

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
)

func TestValuesComeBackInOrder(t *testing.T) {
	t.Parallel()
	var b []byte
	b = codec.AppendUvarint(b, math.MaxUint64)
	b = codec.AppendVarint(b, math.MinInt64)
	b = codec.AppendUint64(b, 7)
	b = codec.AppendUint32(b, 8)
	b = codec.AppendBool(b, true)
	b = codec.AppendBytes(b, []byte{1, 2})
	b = codec.AppendString(b, "three")
	b = codec.AppendUvarint(b, 1) // a list of one
	b = append(b, 9)
	r := codec.NewReader(b)
	if r.Uvarint() != math.MaxUint64 || r.Varint() != math.MinInt64 || r.Uint64() != 7 || r.Uint32() != 8 || !r.Bool() ||
		!bytes.Equal(r.Bytes(2), []byte{1, 2}) || r.String(5) != "three" || r.Count(1) != 1 {
		t.Error("a value came back as another one")
	}
	if r.Len() != 1 || r.Pos() != len(b)-1 {
		t.Errorf("at %d with %d left", r.Pos(), r.Len())
	}
	if r.Byte() != 9 || r.Close() != nil {
		t.Errorf("the end: %v", r.Err())
	}
}

func TestFailuresAreNamedAndStick(t *testing.T) {
	t.Parallel()
	long := codec.AppendBytes(nil, []byte("abc"))
	for name, c := range map[string]struct {
		in   []byte
		read func(*codec.Reader)
		want error
	}{
		"nothing there":        {nil, func(r *codec.Reader) { r.Uvarint() }, codec.ErrShort},
		"half a varint":        {[]byte{0x80}, func(r *codec.Reader) { r.Varint() }, codec.ErrShort},
		"half a number":        {[]byte{1, 2, 3}, func(r *codec.Reader) { r.Uint32() }, codec.ErrShort},
		"half a long number":   {[]byte{1, 2, 3}, func(r *codec.Reader) { r.Uint64() }, codec.ErrShort},
		"bytes over the limit": {long, func(r *codec.Reader) { r.Bytes(2) }, codec.ErrTooLong},
		"bytes cut off":        {long[:2], func(r *codec.Reader) { r.Bytes(9) }, codec.ErrShort},
		"a forged count":       {codec.AppendUvarint(nil, 1<<40), func(r *codec.Reader) { r.Count(1 << 50) }, codec.ErrShort},
		"too many elements":    {[]byte{3, 0, 0, 0}, func(r *codec.Reader) { r.Count(2) }, codec.ErrTooLong},
		"bytes left over":      {[]byte{1, 2}, func(r *codec.Reader) { r.Byte() }, codec.ErrTrailing},
	} {
		r := codec.NewReader(c.in)
		c.read(r)
		if err := r.Close(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
			continue
		}
		if r.Uvarint() != 0 || r.Byte() != 0 || r.String(9) != "" || !errors.Is(r.Err(), c.want) {
			t.Errorf("%s: reading goes on after the failure", name)
		}
	}
	r := codec.NewReader([]byte{2})
	if r.Bool(); r.Err() == nil {
		t.Error("2 is taken for a boolean")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(codec.AppendString(codec.AppendUvarint(nil, 3), "abc"), []byte{0, 6})
	f.Fuzz(func(t *testing.T, in, script []byte) {
		r := codec.NewReader(in)
		for _, step := range script {
			before := r.Len()
			switch step % 8 {
			case 0:
				r.Uvarint()
			case 1:
				r.Varint()
			case 2:
				r.Uint64()
			case 3:
				r.Uint32()
			case 4:
				r.Bool()
			case 5:
				if b := r.Bytes(64); len(b) > 64 {
					t.Fatalf("%d bytes, the limit is 64", len(b))
				}
			case 6:
				if s := r.String(64); len(s) > before {
					t.Fatal("more text than input")
				}
			case 7:
				if n := r.Count(1000); n > 1000 || n > before {
					t.Fatalf("a list of %d in %d bytes", n, before)
				}
			}
			if r.Len() > before || r.Pos() > len(in) {
				t.Fatal("the reader went back or beyond the end")
			}
		}
	})
}
