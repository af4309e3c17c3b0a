package group

import (
	"fmt"
	"testing"
)

// wide is a catalogue of two topics of many partitions.
type wide uint64

func (n wide) HasPartition(p uint64) bool { return p >= 1 && p <= 2*uint64(n) }

func (n wide) TopicPartitions(topic string) []uint64 {
	first := uint64(1)
	if topic == "b" {
		first += uint64(n)
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = first + uint64(i)
	}
	return out
}

// BenchmarkRebalance is what one member that comes and goes costs the loop that
// applies entries, in the largest group that there may be.
func BenchmarkRebalance(b *testing.B) {
	for _, overlap := range []bool{false, true} {
		b.Run(fmt.Sprint("overlap ", overlap), func(b *testing.B) {
			m := New()
			for i := range MaxSubscribers - 1 {
				topics := []string{"a", "b"}
				if overlap && i%2 == 0 {
					topics = topics[:1]
				}
				if r := m.Apply(wide(5000), join("g", fmt.Sprint(i), topics...)); !r.OK() {
					b.Fatal(r)
				}
			}
			for b.Loop() {
				m.Apply(wide(5000), join("g", "x", "a", "b"))
				m.Apply(wide(5000), LeaveGroup{Group: "g", Member: "x"})
			}
		})
	}
}
