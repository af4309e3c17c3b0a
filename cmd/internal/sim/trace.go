package sim

// trace is a running hash of everything that happened. Two runs of a seed have
// equal hashes, or something in them does not follow from the seed.
type trace struct{ hash uint64 }

func (t *trace) mix(values ...uint64) {
	h := t.hash
	for _, v := range values {
		h = (h ^ v) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	t.hash = h
}

func (t *trace) mixString(s string) {
	for i := range len(s) {
		t.mix(uint64(s[i]))
	}
}
