package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"

	"github.com/oncelog/oncelog/api/codec"
)

const (
	partVersion = 1
	partMagic   = "olbackp"
	partHeader  = len(partMagic) + 1
	pieceHeader = 8
	// maxPiece bounds a piece: a chunk of a snapshot and one entry or row.
	maxPiece = 64 << 20
)

// ErrDamaged is wrapped by every error that means that a backup is not what was
// written.
var ErrDamaged = errors.New("the backup is damaged")

func damaged(path, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", path, fmt.Sprintf(format, args...), ErrDamaged)
}

// Part is a file of a backup.
type Part struct {
	// Bytes is its size, Sum its SHA-256.
	Bytes uint64
	Sum   [sha256.Size]byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// partWriter writes a part.
type partWriter struct {
	file *os.File
	out  *bufio.Writer
	hash hash.Hash
	size uint64
}

func createPart(path string) (*partWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	w := &partWriter{file: f, out: bufio.NewWriterSize(f, 1<<20), hash: sha256.New()}
	return w, w.write(append([]byte(partMagic), partVersion))
}

func (w *partWriter) write(b []byte) error {
	w.size += uint64(len(b))
	_, _ = w.hash.Write(b) // never fails
	_, err := w.out.Write(b)
	return err
}

// add writes a piece, which is not empty.
func (w *partWriter) add(piece []byte) error {
	if len(piece) == 0 || len(piece) > maxPiece {
		return fmt.Errorf("%s: a piece of %d bytes, it must have 1 to %d", w.file.Name(), len(piece), maxPiece)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, pieceHeader), uint32(len(piece)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(piece, castagnoli))
	if err := w.write(b); err != nil {
		return err
	}
	return w.write(piece)
}

// close makes the part durable.
func (w *partWriter) close() (Part, error) {
	p := Part{Bytes: w.size}
	w.hash.Sum(p.Sum[:0])
	err := w.out.Flush()
	if err == nil {
		err = w.file.Sync()
	}
	return p, errors.Join(err, w.file.Close())
}

// abandon ends a part that is not to be.
func (w *partWriter) abandon() { _ = w.file.Close() }

// readPart hands the pieces of a part to fn, who may keep them, and tells progress of
// each. An error of fn ends it. Any other error names the file and where in it.
func readPart(path string, want Part, progress func(bytes int), fn func(piece []byte) error) (err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return damaged(path, "the file is missing")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	size, err := readPieces(io.TeeReader(bufio.NewReaderSize(f, 1<<20), h), path, func(piece []byte) error {
		progress(pieceHeader + len(piece))
		return fn(piece)
	})
	if err != nil {
		return err
	}
	switch {
	case size != want.Bytes:
		return damaged(path, "it has %d bytes, not %d", size, want.Bytes)
	case [sha256.Size]byte(h.Sum(nil)) != want.Sum:
		return damaged(path, "its SHA-256 is not the one in %s", ManifestFile)
	}
	return nil
}

// readPieces reads everything from in.
func readPieces(in io.Reader, path string, fn func(piece []byte) error) (size uint64, err error) {
	var header [partHeader]byte
	if _, err := io.ReadFull(in, header[:]); err != nil || string(header[:len(partMagic)]) != partMagic {
		return 0, damaged(path, "it does not begin with %q", partMagic)
	}
	if v := header[len(partMagic)]; v != partVersion {
		return 0, fmt.Errorf("%s: %w", path, &codec.VersionError{Format: "backup part", Found: uint64(v), First: partVersion, Last: partVersion})
	}
	size = uint64(partHeader)
	for {
		var head [pieceHeader]byte
		switch _, err := io.ReadFull(in, head[:]); {
		case errors.Is(err, io.EOF):
			return size, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return 0, damaged(path, "it is cut in the piece at byte %d", size)
		case err != nil:
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n == 0 || n > maxPiece {
			return 0, damaged(path, "the piece at byte %d has %d bytes", size, n)
		}
		piece := make([]byte, n)
		switch _, err := io.ReadFull(in, piece); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return 0, damaged(path, "it is cut in the piece at byte %d", size)
		case err != nil:
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		if crc32.Checksum(piece, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
			return 0, damaged(path, "the piece at byte %d has a wrong checksum", size)
		}
		size += pieceHeader + uint64(n)
		if err := fn(piece); err != nil {
			return 0, err
		}
	}
}
