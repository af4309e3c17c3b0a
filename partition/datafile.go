package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
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

// errDamaged is wrapped by every error that means that a data file is not what
// was written.
var errDamaged = errors.New("file is damaged")

// magicBytes is the length of the magic of a data file. Behind it come the
// CRC-32C of the payload and the payload.
const magicBytes = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// writeDataFile replaces a data file.
func writeDataFile(files Files, name, magic string, payload []byte) error {
	data := make([]byte, 0, magicBytes+4+len(payload))
	data = append(data, magic...)
	data = binary.BigEndian.AppendUint32(data, crc32.Checksum(payload, castagnoli))
	data = append(data, payload...)
	return files.Write(name, data)
}

// readDataFile returns the payload of a file. False: there is none. Damage is
// an error that wraps errDamaged.
func readDataFile(files Files, name, magic string) (payload []byte, ok bool, err error) {
	data, ok, err := files.Read(name)
	if err != nil || !ok {
		return nil, false, err
	}
	if len(data) < magicBytes+4 || string(data[:magicBytes]) != magic {
		return nil, false, fmt.Errorf("%s: %w: no %q file", pathOf(files, name), errDamaged, magic)
	}
	payload = data[magicBytes+4:]
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(data[magicBytes:]) {
		return nil, false, fmt.Errorf("%s: %w: wrong checksum", pathOf(files, name), errDamaged)
	}
	return payload, true, nil
}

// placeOf returns how to call what keeps the files.
func placeOf(files Files) string {
	if d, ok := files.(directory); ok {
		return string(d)
	}
	return "the disk"
}

// pathOf returns how to call one file.
func pathOf(files Files, name string) string {
	if d, ok := files.(directory); ok {
		return d.path(name)
	}
	return name
}

// directory is Files in a directory of the machine. Only the owner may read
// them, as the assignment has keys in it.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

// Read implements [Files].
func (d directory) Read(name string) (data []byte, ok bool, err error) {
	data, err = os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return data, err == nil, err
}

// Write implements [Files].
func (d directory) Write(name string, data []byte) error {
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
