package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxLineBytes is what fits into one record, roughly; the client knows exactly.
const maxLineBytes = 1 << 20

// lineReader reads lines of bounded length.
type lineReader struct {
	r      *bufio.Reader
	number uint64 // of the line that was read last, from 1
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next returns a line without its line feed, in memory of its own; io.EOF after
// the last one. The last line may lack the line feed.
func (l *lineReader) next() ([]byte, error) {
	var line []byte
	l.number++
	for {
		part, err := l.r.ReadSlice('\n')
		line = append(line, part...)
		if len(bytes.TrimSuffix(line, []byte("\n"))) > maxLineBytes {
			return nil, fmt.Errorf("is longer than %d bytes: a record cannot hold it", maxLineBytes)
		}
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		default:
			return nil, err
		}
	}
}
