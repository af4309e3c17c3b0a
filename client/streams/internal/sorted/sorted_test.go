package sorted

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRandom compares the map with one of Go.
func TestRandom(t *testing.T) {
	t.Parallel()
	const seed = 5
	rng := rand.New(rand.NewPCG(seed, 1))
	var m Map
	want := map[string]string{}
	key := func() string { return fmt.Sprintf("%05d", rng.IntN(3000)) }
	for step := range 60_000 {
		switch k := key(); rng.IntN(5) {
		case 0, 1, 2:
			v := fmt.Sprint(step)
			m.Put([]byte(k), []byte(v))
			want[k] = v
		case 3:
			_, ok := want[k]
			if m.Delete([]byte(k)) != ok {
				t.Fatalf("seed %d, step %d: delete %s, want %v", seed, step, k, ok)
			}
			delete(want, k)
		default:
			v, ok := m.Get([]byte(k))
			if w, there := want[k]; ok != there || string(v) != w {
				t.Fatalf("seed %d, step %d: get %s: %s, want %s", seed, step, k, v, w)
			}
		}
		if step%7000 == 0 {
			low := key()[:2]
			m.DeleteBefore([]byte(low))
			for k := range want {
				if k < low {
					delete(want, k)
				}
			}
			compare(t, &m, want, key(), key())
		}
	}
	compare(t, &m, want, "", "99999")
	m.Clear()
	compare(t, &m, nil, "", "99999")
}

func compare(t *testing.T, m *Map, want map[string]string, from, to string) {
	t.Helper()
	var got, wanted []string
	m.Scan([]byte(from), []byte(to), func(e Entry) bool {
		got = append(got, string(e.Key)+"="+string(e.Value))
		return true
	})
	for k, v := range want {
		if k >= from && k < to {
			wanted = append(wanted, k+"="+v)
		}
	}
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) || m.Len() != len(want) {
		t.Fatalf("from %q to %q there are %d entries of %d, want %d of %d", from, to, len(got), m.Len(), len(wanted), len(want))
	}
}
