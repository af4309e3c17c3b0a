package pebblelog

import "runtime"

// Settle returns when Pebble has nothing left to do in the background: tables
// are flushed and compacted, and files that are not needed are gone. Before that
// the directory holds files nobody would miss, and changes while it is copied.
func (s *Store) Settle() {
	for m := s.db.Metrics(); m.Flush.NumInProgress > 0 || m.Compact.NumInProgress > 0; m = s.db.Metrics() {
		runtime.Gosched()
	}
	s.db.TestOnlyWaitForCleaning()
}
