package codec

import (
	"errors"
	"strconv"
)

// ErrVersion is wrapped by every [*VersionError].
var ErrVersion = errors.New("codec: bytes of an unknown format version")

// VersionError reports bytes of a version, or of a kind within a version, that
// this program does not know. Either a newer program wrote them, or they are
// damaged.
type VersionError struct {
	// Format is what the bytes are, as FORMATS.md names it.
	Format string
	// Found is the version in the bytes.
	Found uint64
	// First and Last are the versions that this program reads.
	First, Last uint64
	// Kind is the kind that is unknown, when the version is not.
	Kind uint64
	// KindUnknown says that the version is known and Kind is not.
	KindUnknown bool
}

// Error implements error.
func (e *VersionError) Error() string {
	number := func(v uint64) string { return strconv.FormatUint(v, 10) }
	if e.KindUnknown {
		return e.Format + ": kind " + number(e.Kind) + " of version " + number(e.Found) +
			" is unknown; a newer program wrote it, or it is damaged"
	}
	known := number(e.Last)
	if e.First != e.Last {
		known = number(e.First) + " to " + known
	}
	return e.Format + ": version " + number(e.Found) + " is unknown, this program reads version " + known +
		"; a newer program wrote it, or it is damaged"
}

// Unwrap returns [ErrVersion].
func (e *VersionError) Unwrap() error { return ErrVersion }

// Version reads the version byte of a format. One that is not between first and
// last fails the reader with a [*VersionError].
func (r *Reader) Version(format string, first, last byte) byte {
	v := r.Byte()
	if r.err == nil && (v < first || v > last) {
		r.Fail(&VersionError{Format: format, Found: uint64(v), First: uint64(first), Last: uint64(last)})
	}
	return v
}

// UnknownKind fails the reader because a version has no such kind.
func (r *Reader) UnknownKind(format string, version, kind byte) {
	r.Fail(&VersionError{Format: format, Found: uint64(version), First: uint64(version), Last: uint64(version), Kind: uint64(kind), KindUnknown: true})
}
