package batch

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/internal/golden"
)

var codecs = []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd}

// sample is a batch that has every kind of field in it, and enough repetition
// for every codec to shrink it.
func sample() []Record {
	recs := []Record{
		{Key: []byte("k"), Value: []byte("v"), Timestamp: 1_700_000_000_000},
		{Key: nil, Value: nil, Timestamp: 1_700_000_000_005},
		{Key: []byte{}, Value: []byte{}, Timestamp: 1_699_999_999_990},
		{Key: []byte("h"), Value: []byte("w"), Timestamp: 1_700_000_000_001, Headers: []Header{
			{Key: "trace", Value: []byte{0, 1, 2}}, {Key: "", Value: nil}, {Key: "trace", Value: []byte{}},
		}},
	}
	for i := range 20 {
		recs = append(recs, Record{Value: []byte(strings.Repeat("repeated text ", 4)), Timestamp: 1_700_000_000_000 + int64(i)})
	}
	return recs
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range codecs {
		b, err := Encode([]byte("prefix"), sample(), c)
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		if !bytes.HasPrefix(b, []byte("prefix")) {
			t.Fatalf("%v: what was in dst is gone", c)
		}
		b = b[len("prefix"):]
		info, err := Validate(b, Limits{})
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		want := Info{
			Checksum: info.Checksum, Length: len(b), Codec: c, Records: len(sample()),
			UncompressedBytes: info.UncompressedBytes,
			BaseTimestamp:     1_700_000_000_000, MaxTimestamp: 1_700_000_000_019,
		}
		if info != want {
			t.Errorf("%v: header %+v, want %+v", c, info, want)
		}
		got, err := Decode(b, Limits{})
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		if !reflect.DeepEqual(got, sample()) {
			t.Errorf("%v: decoded\n%v\nwant\n%v", c, got, sample())
		}
	}
}

// TestFormat holds old batches readable. The bytes of a compressed block
// depend on the compressor's version, so only uncompressed ones are compared.
func TestFormat(t *testing.T) {
	t.Parallel()
	if golden.Writing() {
		var samples []golden.Sample
		for _, c := range codecs {
			b, err := Encode(nil, sample(), c)
			if err != nil {
				t.Fatal(err)
			}
			samples = append(samples, golden.Sample{Name: c.String(), Bytes: b})
		}
		golden.Write(t, "record-batch", version, samples)
	}
	for i, s := range golden.Read(t, "record-batch", 1) {
		got, err := Decode(s.Bytes, Limits{})
		if err != nil || !reflect.DeepEqual(got, sample()) {
			t.Errorf("%s: %v, %v", s.Name, got, err)
		}
		if b, _ := Encode(nil, sample(), codecs[i]); codecs[i] == CodecNone && !bytes.Equal(b, s.Bytes) {
			t.Errorf("encoder writes\n%x\ngolden\n%x", b, s.Bytes)
		}
	}
	newer, err := Encode(nil, sample(), CodecNone)
	if err != nil {
		t.Fatal(err)
	}
	newer[3] = version + 1
	if _, err := Validate(newer, Limits{}); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "version 2 is unknown, this program reads version 1") {
		t.Errorf("a batch of version %d: %v", version+1, err)
	}
}

func randomRecords(rng *rand.Rand) []Record {
	text := func(limit int) []byte {
		if rng.IntN(4) == 0 {
			return nil
		}
		b := make([]byte, rng.IntN(limit))
		for i := range b {
			b[i] = byte('a' + rng.IntN(1+rng.IntN(26)))
		}
		return b
	}
	recs := make([]Record, 1+rng.IntN(40))
	for i := range recs {
		recs[i] = Record{Key: text(20), Value: text(200), Timestamp: rng.Int64N(1000)}
		if rng.IntN(10) == 0 {
			recs[i].Timestamp = int64(rng.Uint64())
		}
		for range rng.IntN(4) {
			recs[i].Headers = append(recs[i].Headers, Header{Key: string(text(10)), Value: text(10)})
		}
	}
	return recs
}

func TestRoundTripRandom(t *testing.T) {
	t.Parallel()
	var d Decoder
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 1))
		recs := randomRecords(rng)
		c := codecs[rng.IntN(len(codecs))]
		b, err := Encode(nil, recs, c)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := Decode(b, Limits{})
		if err != nil || !reflect.DeepEqual(got, recs) {
			t.Fatalf("seed %d, %v: decoded %v, %v\nwant %v", seed, c, got, err, recs)
		}
		if _, err := d.Reset(b, Limits{}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i := 0; d.Next(); i++ {
			if !reflect.DeepEqual(d.Record(), recs[i]) {
				t.Fatalf("seed %d: record %d is %v, want %v", seed, i, d.Record(), recs[i])
			}
		}
		if d.Err() != nil {
			t.Fatalf("seed %d: %v", seed, d.Err())
		}
	}
}

func TestTimestampExtremes(t *testing.T) {
	t.Parallel()
	recs := []Record{{Timestamp: math.MinInt64}, {Timestamp: math.MaxInt64}, {Timestamp: 0}}
	b, err := Encode(nil, recs, CodecNone)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b, Limits{})
	if err != nil || !reflect.DeepEqual(got, recs) {
		t.Errorf("decoded %v, %v", got, err)
	}
}

// TestEveryDamageIsNoticed flips every bit of a batch in turn.
func TestEveryDamageIsNoticed(t *testing.T) {
	t.Parallel()
	for _, c := range codecs {
		b, _ := Encode(nil, sample(), c)
		for i := range len(b) * 8 {
			b[i/8] ^= 1 << (i % 8)
			if _, err := Validate(b, Limits{}); err == nil {
				t.Fatalf("%v: bit %d flipped and nothing noticed", c, i)
			}
			b[i/8] ^= 1 << (i % 8)
		}
		for n := range b {
			if _, err := Validate(b[:n], Limits{}); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: cut to %d bytes: %v", c, n, err)
			}
		}
		if _, err := Validate(append(slices.Clone(b), 0), Limits{}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%v: a byte too many: %v", c, err)
		}
	}
}

// seal makes the checksum and length of hand-made bytes right.
func seal(b []byte) []byte {
	putUint32(b[8:], uint32(len(b)))
	putUint32(b[4:], checksum(b))
	return b
}

func putUint32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
}

func TestForgedHeaders(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		forge  func(b []byte) []byte
		limits Limits
		want   error
	}{
		{"version", func(b []byte) []byte { b[3] = 2; return b }, Limits{}, ErrVersion},
		{"magic", func(b []byte) []byte { b[0] = 'x'; return b }, Limits{}, ErrCorrupt},
		{"checksum", func(b []byte) []byte { b[4]++; return b }, Limits{}, ErrChecksum},
		{"attributes", func(b []byte) []byte { b[14] = 1; return seal(b) }, Limits{}, ErrCorrupt},
		{"codec", func(b []byte) []byte { b[15] = 7; return seal(b) }, Limits{}, ErrCodec},
		{"no records", func(b []byte) []byte { putUint32(b[16:], 0); return seal(b) }, Limits{}, ErrCorrupt},
		{"too many records", func(b []byte) []byte { putUint32(b[16:], 1000); return seal(b) }, Limits{}, ErrCorrupt},
		{"size", func(b []byte) []byte { putUint32(b[20:], 1<<20); return seal(b) }, Limits{}, ErrCorrupt},
		{"max timestamp", func(b []byte) []byte { b[32] = 0x80; return seal(b) }, Limits{}, ErrCorrupt},
		{"record limit", func(b []byte) []byte { return b }, Limits{MaxRecords: 23}, &LimitError{"records", 24, 23}},
		{"batch limit", func(b []byte) []byte { return b }, Limits{MaxBatchBytes: 100}, &LimitError{"batch bytes", 0, 100}},
		{"bomb", func(b []byte) []byte { putUint32(b[20:], 1<<31); return seal(b) }, Limits{},
			&LimitError{"uncompressed bytes", 1 << 31, 8 << 20}},
	}
	for _, tt := range tests {
		b, _ := Encode(nil, sample(), CodecNone)
		_, err := Validate(tt.forge(b), tt.limits)
		var want, got *LimitError
		if errors.As(tt.want, &want) {
			if !errors.As(err, &got) || got.Field != want.Field || got.Limit != want.Limit || want.Value != 0 && got.Value != want.Value {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		} else if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestBomb: a compressed block that gives more or less than the header says is
// refused, and no more than the header says is ever allocated for it.
func TestBomb(t *testing.T) {
	t.Parallel()
	big := []Record{{Value: make([]byte, 4<<20)}}
	for _, c := range codecs[1:] {
		b, err := Encode(nil, big, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(b, Limits{MaxUncompressedBytes: 1 << 20}); err == nil {
			t.Errorf("%v: a limit on the uncompressed size was passed", c)
		}
		for _, lie := range []uint32{64 << 10, 5 << 20} {
			forged := slices.Clone(b)
			putUint32(forged[20:], lie)
			_, err := Decode(seal(forged), Limits{})
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v: the header says %d, the block gives %d: %v", c, lie, 4<<20, err)
			}
		}
	}
}

func TestDecodeForgedRecords(t *testing.T) {
	t.Parallel()
	block := func(count int, records ...byte) []byte {
		b, _ := Encode(nil, []Record{{}}, CodecNone)
		b = append(b[:HeaderBytes], records...)
		putUint32(b[16:], uint32(count))
		putUint32(b[20:], uint32(len(records)))
		return seal(b)
	}
	tests := map[string][]byte{
		"key beyond the end":     block(1, 0, 9, 0, 0),
		"huge key":               block(1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0),
		"more headers than fit":  block(1, 0, 0, 0, 100),
		"header key beyond":      block(1, 0, 0, 0, 1, 9, 0),
		"bytes after the last":   block(1, 0, 0, 0, 0, 0),
		"fewer records":          block(2, 0, 0, 0, 1, 1, 'a', 0, 0),
		"first delta not 0":      block(1, 2, 0, 0, 0),
		"varint without an end":  block(1, 0, 0, 0, 0x80),
		"max timestamp not met":  block(2, 0, 0, 0, 0, 2, 0, 0, 0),
		"header count overflows": block(1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	}
	for name, b := range tests {
		_, err := Decode(b, Limits{})
		var limit *LimitError
		if !errors.Is(err, ErrCorrupt) && !errors.As(err, &limit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBuilder(t *testing.T) {
	t.Parallel()
	b := NewBuilder(CodecZstd, Limits{MaxBatchBytes: 190, MaxRecords: 3, MaxRecordBytes: 150, MaxKeyBytes: 10, MaxHeaders: 1, MaxHeaderKeyBytes: 5})
	if _, err := b.Build(nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty batch: %v", err)
	}
	refused := []Record{
		{Key: make([]byte, 11)},
		{Value: make([]byte, 151)},
		{Value: make([]byte, 149)}, // with its lengths above 150
		{Headers: make([]Header, 2)},
		{Headers: []Header{{Key: "123456"}}},
		{Headers: []Header{{Value: make([]byte, 151)}}},
	}
	for i, r := range refused {
		var limit *LimitError
		if _, err := b.Append(r); !errors.As(err, &limit) {
			t.Errorf("record %d: %v, want a LimitError", i, err)
		}
	}
	if b.Len() != 0 || b.Size() != HeaderBytes {
		t.Errorf("refused records left %d records, %d bytes", b.Len(), b.Size())
	}
	small := Record{Key: []byte("k"), Value: []byte("v"), Timestamp: 7}
	size, err := b.Append(small)
	if err != nil || size != HeaderBytes+6 {
		t.Errorf("size %d, %v", size, err)
	}
	if _, err := b.Append(Record{Value: make([]byte, 140)}); !errors.Is(err, ErrFull) {
		t.Errorf("a record that does not fit any more: %v", err)
	}
	for range 2 {
		if _, err := b.Append(small); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Append(small); !errors.Is(err, ErrFull) {
		t.Errorf("a record too many: %v", err)
	}
	first, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := b.Build(nil)
	if !bytes.Equal(first, again) || len(first) > b.Size() {
		t.Errorf("built %x, then %x", first, again)
	}
	if got, err := Decode(first, Limits{}); err != nil || !reflect.DeepEqual(got, []Record{small, small, small}) {
		t.Errorf("decoded %v, %v", got, err)
	}
	b.Reset()
	if b.Len() != 0 || b.Size() != HeaderBytes {
		t.Errorf("after Reset %d records, %d bytes", b.Len(), b.Size())
	}
}

func TestIncompressibleIsStoredAsItIs(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 1000)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(noise)
	for _, c := range codecs {
		b, err := Encode(nil, []Record{{Value: noise}}, c)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := Validate(b, Limits{}); err != nil || info.Codec != CodecNone {
			t.Errorf("%v: stored as %v, %v", c, info.Codec, err)
		}
	}
}

func TestEncodeErrors(t *testing.T) {
	t.Parallel()
	dst := []byte("kept")
	if got, err := Encode(dst, nil, CodecNone); !errors.Is(err, ErrEmpty) || string(got) != "kept" {
		t.Errorf("no records: %q, %v", got, err)
	}
	if got, err := Encode(dst, sample(), Codec(1)); !errors.Is(err, ErrCodec) || string(got) != "kept" {
		t.Errorf("unknown codec: %q, %v", got, err)
	}
}

func TestParseCodec(t *testing.T) {
	t.Parallel()
	for _, c := range codecs {
		if got, err := ParseCodec(c.String()); err != nil || got != c {
			t.Errorf("ParseCodec(%q) = %v, %v", c.String(), got, err)
		}
	}
	if _, err := ParseCodec("gzip"); !errors.Is(err, ErrCodec) {
		t.Errorf("gzip: %v", err)
	}
}

func TestDecodeAliasesTheBuffer(t *testing.T) {
	t.Parallel()
	b, _ := Encode(nil, []Record{{Value: []byte("value")}}, CodecNone)
	recs, err := Decode(b, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if &recs[0].Value[0] != &b[len(b)-6] {
		t.Error("the value was copied")
	}
	if cap(recs[0].Value) != len(recs[0].Value) {
		t.Error("an append to the value would overwrite what follows")
	}
}

// FuzzDecode: no input makes the decoder panic or read beyond its limits, and
// what it accepts survives another round trip.
func FuzzDecode(f *testing.F) {
	for _, c := range codecs {
		b, _ := Encode(nil, sample(), c)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= HeaderBytes {
			b = seal(slices.Clone(b)) // or the checksum would stop almost everything
		}
		limits := Limits{MaxUncompressedBytes: 1 << 20}
		recs, err := Decode(b, limits)
		if err != nil {
			return
		}
		again, err := Encode(nil, recs, CodecNone)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(again, Limits{MaxBatchBytes: maxFormatBytes, MaxUncompressedBytes: maxFormatBytes})
		if err != nil || !reflect.DeepEqual(got, recs) {
			t.Fatalf("%v, then %v, %v", recs, got, err)
		}
	})
}

// FuzzValidate: no input makes the header check panic.
func FuzzValidate(f *testing.F) {
	b, _ := Encode(nil, sample(), CodecLZ4)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := Validate(b, Limits{})
		if err == nil && (info.Length != len(b) || info.Records < 1) {
			t.Fatalf("accepted %+v for %d bytes", info, len(b))
		}
	})
}

func benchRecords() []Record {
	recs := make([]Record, 100)
	for i := range recs {
		recs[i] = Record{
			Key:       fmt.Appendf(nil, "customer-%d", i),
			Value:     fmt.Appendf(nil, `{"order":%d,"amount":%d,"text":%q}`, i, i*17, strings.Repeat("x", 60)),
			Timestamp: 1_700_000_000_000 + int64(i),
		}
	}
	return recs
}

func BenchmarkEncode(b *testing.B) {
	recs := benchRecords()
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			builder := NewBuilder(c, Limits{})
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				builder.Reset()
				for i := range recs {
					if _, err := builder.Append(recs[i]); err != nil {
						b.Fatal(err)
					}
				}
				buf, _ = builder.Build(buf[:0])
			}
			b.SetBytes(int64(builder.Size()))
			b.ReportMetric(float64(len(buf)), "bytes/batch")
		})
	}
}

func BenchmarkValidate(b *testing.B) {
	buf, _ := Encode(nil, benchRecords(), CodecNone)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Validate(buf, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			buf, _ := Encode(nil, benchRecords(), c)
			var d Decoder
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Reset(buf, Limits{}); err != nil {
					b.Fatal(err)
				}
				for d.Next() {
				}
				if d.Err() != nil {
					b.Fatal(d.Err())
				}
			}
		})
	}
}
