//go:build !linux

package diskfault

import (
	"encoding/json"
	"errors"
	"io"
)

// Available returns ErrUnavailable.
func Available() error { return ErrUnavailable }

// Serve answers that there is no FUSE.
func Serve(_, _ string, _ io.Reader, out io.Writer) error {
	return errors.Join(json.NewEncoder(out).Encode(answerOf(ErrUnavailable, Stats{})), ErrUnavailable)
}
