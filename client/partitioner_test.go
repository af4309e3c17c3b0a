package client

import (
	"testing"
)

// The values are those of Kafka's own test, UtilsTest.testMurmur2.
func TestMurmur2(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestPartitioners(t *testing.T) {
	t.Parallel()
	keyed := func(key string) *Record { return &Record{Key: []byte(key)} }
	if got := Murmur2Partitioner(keyed("21"), 10); got != (-973932308&0x7fffffff)%10 {
		t.Errorf("murmur2 partition %d", got)
	}
	// FNV-1a of "a" is 0xe40c292c, negative as an int32: -468965076 % 10 = -6.
	if got := FNV1aPartitioner(keyed("a"), 10); got != 6 {
		t.Errorf("fnv-1a partition %d", got)
	}
	for _, p := range []Partitioner{Murmur2Partitioner, FNV1aPartitioner} {
		if got := p(&Record{}, 10); got >= 0 {
			t.Errorf("a record without a key got partition %d", got)
		}
		if got := p(keyed(""), 10); got < 0 {
			t.Error("an empty key is a key")
		}
	}
	rr := NewRoundRobinPartitioner()
	for i := range 7 {
		if got := rr(keyed("same"), 3); got != i%3 {
			t.Errorf("turn %d went to %d", i, got)
		}
	}
}

func FuzzMurmur2(f *testing.F) {
	f.Add([]byte("foobar"))
	f.Fuzz(func(t *testing.T, key []byte) {
		if p := Murmur2Partitioner(&Record{Key: append([]byte{}, key...)}, 7); p < 0 || p >= 7 {
			t.Errorf("partition %d of 7", p)
		}
	})
}

// Records without a key share a partition until their batch is full, then move.
func TestUnkeyedRecordsStick(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		f.topic("t", 4)
		p := f.producer(f.dial())
		tx := f.begin(p)
		var rs []*Record
		for range 10 {
			rs = append(rs, &Record{Topic: "t", Value: []byte("v")})
		}
		must(t, tx.Send(within(t), rs...))
		must(t, tx.Flush(within(t)))
		for _, r := range rs {
			if r.Partition != rs[0].Partition {
				t.Errorf("records of one batch went to %d and %d", rs[0].Partition, r.Partition)
			}
		}
		next := &Record{Topic: "t"}
		must(t, tx.Send(within(t), next))
		must(t, tx.Flush(within(t)))
		if next.Partition == rs[0].Partition {
			t.Error("the next batch went to the same partition")
		}
		must(t, tx.Commit(within(t)))
	})
}
