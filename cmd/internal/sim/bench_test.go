package sim

import "testing"

// BenchmarkSeed is one seed: the figure that bounds how many worlds a minute
// has.
func BenchmarkSeed(b *testing.B) {
	b.ReportAllocs()
	for seed := uint64(1); b.Loop(); seed++ {
		Run(Draw(seed), nil)
	}
}
