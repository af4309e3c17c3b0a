// Package datafile keeps the small files of a node: who it is, and what it was
// last told. A file is replaced as a whole, and what is read is what was written,
// or an error that names the file.
//
// # Format
//
//	offset  bytes  content
//	     0      7  magic: which file this is
//	     7      1  version of the payload
//	     8      4  CRC-32C of everything else, most significant byte first
//	    12         payload
//
// It holds for every version, so that a program which does not know a version
// can tell it from damage.
package datafile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oncelog/oncelog/api/codec"
)

// Files keeps a node's small files, which it reads when it starts and replaces
// as a whole. What is in them, checksums included, is the node's affair.
type Files interface {
	// Read returns what was last written under a name. False: nothing was.
	Read(name string) (data []byte, ok bool, err error)
	// Write replaces a file atomically and durably: after a crash it is the old
	// one or the new one, and the new one once Write has returned. data is not
	// kept. Some of it is secret.
	Write(name string, data []byte) error
}

// ErrDamaged is wrapped by every error that means that a file is not what was
// written.
var ErrDamaged = errors.New("file is damaged")

// Format describes one of the files.
type Format struct {
	// File is its name, and What says in an error what it is.
	File, What string
	// Magic is seven bytes.
	Magic string
	// First and Last are the versions that are read; Last is written.
	First, Last byte
}

// frameVersion is that of the frame. It is not written: the magic stands for it.
const frameVersion = 1

const (
	magicBytes  = 7
	headerBytes = magicBytes + 1 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Write replaces the file by one of the last version.
func (f Format) Write(files Files, payload []byte) error {
	data := make([]byte, 0, headerBytes+len(payload))
	data = append(data, f.Magic...)
	data = append(data, f.Last, 0, 0, 0, 0)
	data = append(data, payload...)
	binary.BigEndian.PutUint32(data[magicBytes+1:], checksum(data))
	if err := files.Write(f.File, data); err != nil {
		return fmt.Errorf("write %s: %w", f.What, err)
	}
	return nil
}

// Read returns the payload of the file and its version. False: there is none.
// Errors wrap [ErrDamaged], [codec.ErrVersion], or are the disk's.
func (f Format) Read(files Files) (payload []byte, version byte, ok bool, err error) {
	data, ok, err := files.Read(f.File)
	switch {
	case err != nil:
		return nil, 0, false, fmt.Errorf("read %s: %w", f.What, err)
	case !ok:
		return nil, 0, false, nil
	case len(data) < headerBytes || string(data[:magicBytes]) != f.Magic:
		return nil, 0, false, f.Damaged(files, fmt.Errorf("it does not begin with %q", f.Magic))
	case checksum(data) != binary.BigEndian.Uint32(data[magicBytes+1:]):
		return nil, 0, false, f.Damaged(files, errors.New("wrong checksum"))
	}
	version = data[magicBytes]
	if version < f.First || version > f.Last {
		return nil, 0, false, fmt.Errorf("%s: %w", PathOf(files, f.File),
			&codec.VersionError{Format: f.What, Found: uint64(version), First: uint64(f.First), Last: uint64(f.Last)})
	}
	return data[headerBytes:], version, true, nil
}

// Damaged makes the error that says that the file is not what was written.
func (f Format) Damaged(files Files, why error) error {
	return fmt.Errorf("%s: %s %w: %w", PathOf(files, f.File), f.What, ErrDamaged, why)
}

// checksum is that of everything but itself.
func checksum(data []byte) uint32 {
	return crc32.Update(crc32.Checksum(data[:magicBytes+1], castagnoli), castagnoli, data[headerBytes:])
}

// PlaceOf returns how to call what keeps the files.
func PlaceOf(files Files) string {
	if d, ok := files.(Directory); ok {
		return string(d)
	}
	return "the disk"
}

// PathOf returns how to call one file.
func PathOf(files Files, name string) string {
	if d, ok := files.(Directory); ok {
		return d.path(name)
	}
	return name
}

// Directory is [Files] in a directory of the machine, which exists. Only the
// owner may read them, as there are keys in some.
type Directory string

func (d Directory) path(name string) string { return filepath.Join(string(d), name) }

// Read implements [Files].
func (d Directory) Read(name string) (data []byte, ok bool, err error) {
	data, err = os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return data, err == nil, err
}

// Write implements [Files].
func (d Directory) Write(name string, data []byte) error {
	path := d.path(name)
	tmp := path + ".tmp"
	if err := writeSynced(tmp, data); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	dir, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeSynced(path string, data []byte) error {
	// A file left behind by a crash may have other permissions.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
