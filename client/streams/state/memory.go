package state

import (
	"slices"
	"sync"

	"github.com/oncelog/oncelog/client/streams/internal/sorted"
)

// Memory keeps states in memory for as long as it lives: a state that is closed
// and opened again is as it was. It is safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	states map[ID]*memoryState
}

// NewMemory returns a backend without any state.
func NewMemory() *Memory { return &Memory{states: map[ID]*memoryState{}} }

// Open implements Backend.
func (m *Memory) Open(id ID) (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.states[id]
	if s == nil {
		s = &memoryState{home: m}
		m.states[id] = s
	}
	if s.open {
		return nil, ErrInUse
	}
	s.open = true
	return s, nil
}

// memoryState is a map that readers share and Apply has for itself.
type memoryState struct {
	home *Memory
	open bool // guarded by home.mu

	mu      sync.RWMutex
	entries sorted.Map
	at      Checkpoint
}

// Get implements Reader.
func (s *memoryState) Get(key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return unlocked{s}.Get(key)
}

// Scan implements Reader.
func (s *memoryState) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return unlocked{s}.Scan(from, to, fn)
}

// Checkpoint implements Reader.
func (s *memoryState) Checkpoint() Checkpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.at
}

// View implements State.
func (s *memoryState) View(fn func(r Reader) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return fn(unlocked{s})
}

// Apply implements State.
func (s *memoryState) Apply(c Changes) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Clear {
		s.entries.Clear()
	}
	for _, e := range c.Entries {
		if e.Value == nil {
			s.entries.Delete(e.Key)
			continue
		}
		// Its own: callers may hand over a part of something large.
		s.entries.Put(slices.Clone(e.Key), slices.Clone(e.Value))
	}
	if c.DropBefore != nil {
		s.entries.DeleteBefore(c.DropBefore)
	}
	s.at = c.Checkpoint
	return nil
}

// Close implements State.
func (s *memoryState) Close() error {
	s.home.mu.Lock()
	defer s.home.mu.Unlock()
	s.open = false
	return nil
}

// unlocked reads a state whose mutex is held.
type unlocked struct{ s *memoryState }

// Get implements Reader.
func (u unlocked) Get(key []byte) ([]byte, error) {
	v, _ := u.s.entries.Get(key)
	return v, nil
}

// Scan implements Reader.
func (u unlocked) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	u.s.entries.Scan(from, to, func(e sorted.Entry) bool { return fn(e.Key, e.Value) })
	return nil
}

// Checkpoint implements Reader.
func (u unlocked) Checkpoint() Checkpoint { return u.s.at }
