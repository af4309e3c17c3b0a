package raftstore

// rowBatch is the batch that one turn's applied entries write rows to. It is
// made when the first row is written: most groups write none.
type rowBatch struct {
	store LogStore
	batch LogBatch
}

func (b *rowBatch) get() LogBatch {
	if b.batch == nil {
		b.batch = b.store.NewBatch()
	}
	return b.batch
}

// rowWriter is the RowWriter a machine gets.
type rowWriter struct {
	batch *rowBatch
	group GroupID
	rows  RowWriter
}

func (w *rowWriter) writer() RowWriter {
	if w.rows == nil {
		w.rows = w.batch.get().Rows(w.group)
	}
	return w.rows
}

func (w *rowWriter) Set(key, value []byte)     { w.writer().Set(key, value) }
func (w *rowWriter) Delete(key []byte)         { w.writer().Delete(key) }
func (w *rowWriter) DeleteRange(lo, hi []byte) { w.writer().DeleteRange(lo, hi) }
