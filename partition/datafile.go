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

// errDamaged is wrapped by every error that means that a data file is not what
// was written.
var errDamaged = errors.New("file is damaged")

// magicBytes is the length of the magic of a data file. Behind it come the
// CRC-32C of the payload and the payload.
const magicBytes = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// writeDataFile replaces a small file atomically and durably: after a crash it
// is the old one or the new one. Only the owner may read it, as the assignment
// has keys in it.
func writeDataFile(path, magic string, payload []byte) error {
	data := make([]byte, 0, magicBytes+4+len(payload))
	data = append(data, magic...)
	data = binary.BigEndian.AppendUint32(data, crc32.Checksum(payload, castagnoli))
	data = append(data, payload...)
	tmp := path + ".tmp"
	if err := writeSynced(tmp, data); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
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

// readDataFile returns the payload of a file. False: there is none. Damage is
// an error that wraps errDamaged.
func readDataFile(path, magic string) (payload []byte, ok bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if len(data) < magicBytes+4 || string(data[:magicBytes]) != magic {
		return nil, false, fmt.Errorf("%s: %w: no %q file", path, errDamaged, magic)
	}
	payload = data[magicBytes+4:]
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(data[magicBytes:]) {
		return nil, false, fmt.Errorf("%s: %w: wrong checksum", path, errDamaged)
	}
	return payload, true, nil
}
