package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// usableDir makes the data directory where it is missing, and finds out before anything
// else whether the node can write there: what the log says about that later names files
// that nobody knows.
func usableDir(dir string) error {
	err := makeDir(dir)
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".writable-*"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("data_dir %q cannot be used: %s (%w)", dir, mendDir(dir, err), err)
	}
	return nil
}

// mendDir says what to do about a directory that cannot be written.
func mendDir(dir string, err error) string {
	switch {
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return "there is a file where a directory is to be; give --data-dir another path"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("user %d, who runs the node, may not write there; give it to that user, or give --data-dir another path", os.Getuid())
	case errors.Is(err, syscall.EROFS):
		return "its file system is read-only; mount it for writing, or give --data-dir another path"
	case errors.Is(err, syscall.ENOSPC):
		return "its disk is full; make room there, but delete nothing in the directory itself"
	case errors.Is(err, fs.ErrNotExist):
		return filepath.Dir(filepath.Clean(dir)) + " takes no directories; give --data-dir another path"
	default:
		return "give --data-dir another path, or mend the disk"
	}
}

// cannotListen says what to do about an address that cannot be opened; setting is the one
// that names it.
func cannotListen(setting, address string, err error) error {
	flag := "--" + strings.ReplaceAll(setting, "_", "-")
	mend := "give " + flag + " another address"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		mend = "another program has it; stop that one, or give " + flag + " another port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		mend = "this machine has no such address; give " + flag + " one of its own, or 0.0.0.0 for all of them"
	case errors.Is(err, fs.ErrPermission):
		mend = "ports below 1024 need a privilege; give " + flag + " a higher one"
	}
	return fmt.Errorf("%s %q cannot be opened: %s (%w)", setting, address, mend, err)
}
