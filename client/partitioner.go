package client

import (
	"hash/fnv"
	"sync/atomic"
)

// Partitioner chooses the partition, from 0 to partitions-1, of a record that
// names none. A negative answer leaves the choice to the producer: such records
// stay together in one partition until a batch is full, and then move to
// another. It must be fast, and safe for concurrent use.
type Partitioner func(r *Record, partitions int) int

// Murmur2Partitioner is what Kafka's Java client does: records with a key go by
// its murmur2 hash, the others stick to a partition until their batch is full.
func Murmur2Partitioner(r *Record, partitions int) int {
	if r.Key == nil {
		return -1
	}
	return int(murmur2(r.Key)&0x7fffffff) % partitions
}

// FNV1aPartitioner puts keys where sarama's hash partitioner puts them; records
// without a key stick to a partition until their batch is full.
func FNV1aPartitioner(r *Record, partitions int) int {
	if r.Key == nil {
		return -1
	}
	h := fnv.New32a()
	_, _ = h.Write(r.Key) // never fails
	// Signed, as sarama has it: the remainder is made positive, not the hash.
	p := int32(h.Sum32()) % int32(partitions)
	if p < 0 {
		p = -p
	}
	return int(p)
}

// NewRoundRobinPartitioner returns a partitioner that ignores keys and deals
// records out one by one.
func NewRoundRobinPartitioner() Partitioner {
	var next atomic.Uint64
	return func(_ *Record, partitions int) int {
		return int((next.Add(1) - 1) % uint64(partitions))
	}
}

// murmur2 is the hash of Kafka's Java client: MurmurHash2 with seed 0x9747b28c.
func murmur2(key []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(key))
	for len(key) >= 4 {
		k := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
		key = key[4:]
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
