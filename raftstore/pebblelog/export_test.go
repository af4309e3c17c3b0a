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

// Begins returns the number of the first batch of every write-ahead log that there is,
// as it was written down and as it is; 0: it has none yet.
func (s *Store) Begins() (said, is []uint64, err error) {
	s.wals.mu.Lock()
	defer s.wals.mu.Unlock()
	for _, w := range s.wals.list {
		data, ok, err := s.wals.files.Read(w.name())
		if err != nil || !ok {
			return nil, nil, err
		}
		number := uint64(0)
		for len(data) >= walHeader && number == 0 {
			_, header, payload, ok := readChunk(data, uint32(w.number))
			if !ok {
				break
			}
			number, _, _ = readMark(payload)
			data = data[header+len(payload):]
		}
		said, is = append(said, w.first), append(is, number)
	}
	return said, is, nil
}

// Written flushes what is in memory and returns how many bytes were written to the
// write-ahead log and to tables so far.
func (s *Store) Written() (wal, tables uint64, err error) {
	if err := s.db.Flush(); err != nil {
		return 0, 0, err
	}
	m := s.db.Metrics()
	for i := range m.Levels {
		l := &m.Levels[i]
		if tables += l.TableBytesFlushed + l.BlobBytesFlushed + l.TableBytesCompacted; i > 0 {
			tables += l.BlobBytesCompacted // of level 0 they are those flushed, once more
		}
	}
	return m.WAL.BytesWritten, tables, nil
}
