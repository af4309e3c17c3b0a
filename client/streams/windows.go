package streams

import (
	"time"

	"github.com/oncelog/oncelog/client/streams/internal/engine"
)

// maxWindowsPerRecord is how many windows of a kind a record may be in.
const maxWindowsPerRecord = 1000

// Windows are spans of time, all of one size, that begin at the multiples of
// Advance since 1970. A window has the records of its start, up to and without its
// end.
type Windows struct {
	// Size of a window, whole milliseconds, more than 0.
	Size time.Duration
	// Advance is from one start to the next: 1 ms to Size.
	Advance time.Duration
	// Grace is how long after its end, in stream time, a window takes records that
	// are late. Later ones are dropped, and counted.
	Grace time.Duration
	// Retention is how long after its start, in stream time, a window can be read.
	// At least Size and Grace together, which is what 0 stands for.
	Retention time.Duration
}

// Tumbling are windows side by side: every record is in one.
func Tumbling(size time.Duration) Windows { return Windows{Size: size, Advance: size} }

// Hopping are windows that overlap: every record is in size/advance of them, at
// most 1,000.
func Hopping(size, advance time.Duration) Windows { return Windows{Size: size, Advance: advance} }

// WithGrace returns windows that wait for late records.
func (w Windows) WithGrace(d time.Duration) Windows { w.Grace = d; return w }

// WithRetention returns windows that can be read for longer.
func (w Windows) WithRetention(d time.Duration) Windows { w.Retention = d; return w }

func (w Windows) problem() string {
	ms := time.Millisecond
	switch {
	case w.Size < ms || w.Size%ms != 0 || w.Advance < ms || w.Advance%ms != 0:
		return "size and advance of windows are whole milliseconds, more than 0"
	case w.Advance > w.Size:
		return "windows that advance by more than their size leave gaps"
	case w.Size/w.Advance > maxWindowsPerRecord:
		return "a record would be in more than 1,000 windows"
	case w.Grace < 0 || w.Retention < 0:
		return "grace and retention are not negative"
	case w.Retention > 0 && w.Retention < w.Size+w.Grace:
		return "retention is at least size and grace together"
	}
	return ""
}

func (w Windows) retention() time.Duration { return max(w.Retention, w.Size+w.Grace) }

// starts calls fn with the starts, in milliseconds, of the windows that a time is
// in, the earliest first.
func (w Windows) starts(ms int64, fn func(start int64) error) error {
	size, advance := w.Size.Milliseconds(), w.Advance.Milliseconds()
	last := floorTo(ms, advance)
	first := floorTo(ms-size, advance) + advance
	for start := first; start <= last; start += advance {
		if err := fn(start); err != nil {
			return err
		}
	}
	return nil
}

// floorTo returns the highest multiple of n that is not above v.
func floorTo(v, n int64) int64 {
	m := v % n
	if m < 0 {
		m += n
	}
	return v - m
}

// Windowed is a key within a window.
type Windowed[K any] struct {
	// Key of the records.
	Key K
	// Start and End of the window; records at End are not in it.
	Start, End time.Time
}

func windowAt[K any](key K, start int64, size time.Duration) Windowed[K] {
	at := time.UnixMilli(start)
	return Windowed[K]{Key: key, Start: at, End: at.Add(size)}
}

// WindowedKey is a serde for keys within windows of a kind: a version, the start,
// and the key, see FORMATS.md.
func WindowedKey[K any](key Serde[K], w Windows) Serde[Windowed[K]] {
	return Serde[Windowed[K]]{
		Encode: func(v Windowed[K]) ([]byte, error) {
			b, err := key.Encode(v.Key)
			return engine.WindowKey(v.Start.UnixMilli(), b), err
		},
		Decode: func(b []byte) (out Windowed[K], err error) {
			if b == nil {
				return out, errAbsent
			}
			start, k, err := engine.SplitWindowKey(b)
			if err != nil {
				return out, err
			}
			decoded, err := key.Decode(k)
			return windowAt(decoded, start, w.Size), err
		},
	}
}

// WindowStore names a store of values by key and window, and says how they are
// encoded. Windows go when their retention is over.
type WindowStore[K, V any] struct {
	name    string
	key     Serde[K]
	value   Serde[V]
	windows Windows
}

// NewWindowStore returns a window store's name, types and windows; see NewStore.
func NewWindowStore[K, V any](name string, key Serde[K], value Serde[V], w Windows) WindowStore[K, V] {
	return WindowStore[K, V]{name: name, key: key, value: value, windows: w}
}

// Name returns the name of the store.
func (s WindowStore[K, V]) Name() string { return s.name }

// Windows returns the windows of the store.
func (s WindowStore[K, V]) Windows() Windows { return s.windows }

func (s WindowStore[K, V]) spec() (engine.StoreSpec, string) {
	spec := engine.StoreSpec{Name: s.name, Window: true, Retention: s.windows.retention().Milliseconds()}
	if !s.key.complete() || !s.value.complete() {
		return spec, "a serde lacks Encode or Decode"
	}
	return spec, s.windows.problem()
}

// flat is the store without what is special about windows.
func (s WindowStore[K, V]) flat() Store[Windowed[K], V] {
	return Store[Windowed[K], V]{name: s.name, key: WindowedKey(s.key, s.windows), value: s.value}
}

// Get returns the value of a key in the window that begins at start.
func (s WindowStore[K, V]) Get(in Scope, key K, start time.Time) (value V, ok bool, err error) {
	return s.flat().Get(in, Windowed[K]{Key: key, Start: start})
}

// Put sets the value of a key in the window that begins at start. A window whose
// retention is over takes none.
func (s WindowStore[K, V]) Put(in Scope, key K, start time.Time, value V) error {
	return s.flat().Put(in, Windowed[K]{Key: key, Start: start}, value)
}

// Delete removes a key from the window that begins at start.
func (s WindowStore[K, V]) Delete(in Scope, key K, start time.Time) error {
	return s.flat().Delete(in, Windowed[K]{Key: key, Start: start})
}

// Each calls fn with the entries of all windows that begin from a time on, up to
// and without another one, by start and key; see [Store.Each].
func (s WindowStore[K, V]) Each(in Scope, from, to time.Time, fn func(w Windowed[K], value V) error) error {
	e, err := in.scope(s.name)
	if err != nil {
		return err
	}
	first, end := engine.WindowKey(from.UnixMilli(), nil), engine.WindowKey(to.UnixMilli(), nil)
	return each(e, first, end, func(k, v []byte) error { return s.flat().entry(k, v, fn) })
}
