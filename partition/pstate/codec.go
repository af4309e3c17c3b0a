package pstate

import (
	"errors"

	"github.com/oncelog/oncelog/api/codec"
)

// Limits of one entry. They bound what a decoder allocates and how long one
// entry takes to apply; an encoder refuses what a decoder would refuse.
const (
	// MaxEntryBytes bounds an encoded command.
	MaxEntryBytes = 64 << 20
	// MaxPayloadBytes bounds the bytes of one batch. A shard may accept less,
	// see [Config.MaxBatchBytes].
	MaxPayloadBytes = 32 << 20
	// MaxBatchesPerEntry bounds the batches of all appends of an entry, and
	// the appends.
	MaxBatchesPerEntry = 1 << 14
	// MaxMarkersPerEntry bounds the markers or answers of an entry.
	MaxMarkersPerEntry = 1 << 12
	// MaxProgress bounds the partitions of one marker.
	MaxProgress = 1 << 16
	// MaxSyncPartitions bounds each list of a [SyncPartitions].
	MaxSyncPartitions = 1 << 16
	// MaxLogStarts bounds the partitions of an [AdvanceLogStarts].
	MaxLogStarts = 1 << 12
	// MaxRetention bounds [Retention]: some hundred thousand years of
	// milliseconds, some thousand terabytes.
	MaxRetention = 1 << 53
	// MaxForget bounds the ids of a [Forget].
	MaxForget = 1 << 16
	// MaxTopicName bounds the bytes of a topic name.
	MaxTopicName = 255
)

// Errors of the encoders and decoders. A decoder that fails on an entry of the
// log has met a newer version or damage; the runner must stop, not skip it.
var (
	// ErrVersion reports an entry or snapshot of a version, or an entry of a kind,
	// that this code does not know.
	ErrVersion = codec.ErrVersion
	// ErrKind reports an entry of another kind than the decoder's.
	ErrKind = errors.New("pstate: command of another kind")
	// ErrLimit reports a command beyond one of the limits of an entry.
	ErrLimit = errors.New("pstate: command above a limit")
	// ErrValue reports a value that no encoder writes.
	ErrValue = errors.New("pstate: value out of range")
)

// Kind is the kind of command an entry holds. The numbers are written to logs.
type Kind uint8

// The kinds of commands. An entry holds one command.
const (
	KindAppends          Kind = 1
	KindMarkers          Kind = 2
	KindEnlistAnswers    Kind = 3
	KindSyncPartitions   Kind = 4
	KindForget           Kind = 5
	KindAdvanceLogStarts Kind = 6
	KindConfigure        Kind = 7
	KindRelocate         Kind = 8
	KindRewrite          Kind = 9
	KindCompacted        Kind = 10
)

// entryVersion is the newest version of commands; raise it with any change, and
// keep reading the old ones. A command is written in the oldest version that can say
// it, so that members of an older release stop at nothing that they could have done.
// Version 2 has KindRewrite and KindCompacted, and a SyncPartitions with the cleanup
// of partitions.
const (
	entryVersion       = 2
	oldestEntryVersion = 1
)

// KindOf returns which command an entry holds.
func KindOf(entry []byte) (Kind, error) {
	if len(entry) < 2 {
		return 0, codec.ErrShort
	}
	r := codec.NewReader(entry[:2])
	version := r.Version("shard command", oldestEntryVersion, entryVersion)
	k := Kind(r.Byte())
	if !k.in(version) {
		r.UnknownKind("shard command", version, byte(k))
	}
	return k, r.Err()
}

// in reports whether a version has commands of the kind.
func (k Kind) in(version byte) bool {
	if version == 1 {
		return k >= KindAppends && k <= KindRelocate
	}
	return k == KindSyncPartitions || k == KindRewrite || k == KindCompacted
}

// open checks the head of an entry and returns a reader of the rest.
func open(entry []byte, want Kind) (*codec.Reader, error) {
	if len(entry) > MaxEntryBytes {
		return nil, ErrLimit
	}
	k, err := KindOf(entry)
	if err != nil {
		return nil, err
	}
	if k != want {
		return nil, ErrKind
	}
	r := codec.NewReader(entry)
	r.Byte()
	r.Byte()
	return r, nil
}

func head(dst []byte, k Kind) []byte { return append(dst, oldestEntryVersion, byte(k)) }

// head2 begins a command of version 2.
func head2(dst []byte, k Kind) []byte { return append(dst, 2, byte(k)) }

func readUint32(r *codec.Reader) uint32 {
	v := r.Uvarint()
	if v > 1<<32-1 {
		r.Fail(ErrValue)
		return 0
	}
	return uint32(v)
}

func appendRef(b []byte, ref TxnRef) []byte {
	b = codec.AppendUvarint(b, ref.ProducerID)
	return appendPoint(b, ref.Point())
}

func readRef(r *codec.Reader) TxnRef {
	id := r.Uvarint()
	p := readPoint(r)
	return TxnRef{id, p.Epoch, p.Number}
}

func appendPoint(b []byte, p Point) []byte {
	b = codec.AppendUvarint(b, uint64(p.Epoch))
	return codec.AppendUvarint(b, p.Number)
}

func readPoint(r *codec.Reader) Point {
	epoch := readUint32(r)
	return Point{epoch, r.Uvarint()}
}

func validDecision(d Decision) error {
	if d.Outcome != OutcomeCommit && d.Outcome != OutcomeAbort {
		return ErrValue
	}
	if len(d.Progress) > MaxProgress {
		return ErrLimit
	}
	for i := 1; i < len(d.Progress); i++ {
		if d.Progress[i].Partition <= d.Progress[i-1].Partition {
			return ErrValue
		}
	}
	return nil
}

func appendDecision(b []byte, d Decision) []byte {
	b = append(b, byte(d.Outcome), byte(d.Reason))
	b = appendPoint(b, d.CompleteBelow)
	b = codec.AppendUvarint(b, uint64(len(d.Progress)))
	for _, p := range d.Progress {
		b = codec.AppendUvarint(b, p.Partition)
		b = codec.AppendUvarint(b, p.Next)
	}
	return b
}

func readDecision(r *codec.Reader) Decision {
	d := Decision{Outcome: Outcome(r.Byte()), Reason: Reason(r.Byte()), CompleteBelow: readPoint(r)}
	if n := r.Count(MaxProgress); n > 0 {
		d.Progress = make([]Progress, n)
	}
	for i := range d.Progress {
		d.Progress[i] = Progress{r.Uvarint(), r.Uvarint()}
	}
	if r.Err() == nil {
		if err := validDecision(d); err != nil {
			r.Fail(err)
		}
	}
	return d
}

// EncodeMarkers appends the command to dst. Progress must be ascending by
// partition, each partition once.
func EncodeMarkers(dst []byte, m Markers) ([]byte, error) {
	if len(m.List) > MaxMarkersPerEntry {
		return dst, ErrLimit
	}
	b := codec.AppendVarint(head(dst, KindMarkers), m.At)
	b = codec.AppendUvarint(b, uint64(len(m.List)))
	for _, mk := range m.List {
		if err := validDecision(mk.Decision); err != nil {
			return dst, err
		}
		if !mk.Ref.Transactional() {
			return dst, ErrValue
		}
		b = appendDecision(appendRef(b, mk.Ref), mk.Decision)
	}
	return within(dst, b)
}

// within refuses an entry that grew too large.
func within(dst, b []byte) ([]byte, error) {
	if len(b)-len(dst) > MaxEntryBytes {
		return dst, ErrLimit
	}
	return b, nil
}

// DecodeMarkers reads what [EncodeMarkers] wrote.
func DecodeMarkers(entry []byte) (Markers, error) {
	r, err := open(entry, KindMarkers)
	if err != nil {
		return Markers{}, err
	}
	m := Markers{At: r.Varint()}
	for range r.Count(MaxMarkersPerEntry) {
		mk := Marker{readRef(r), readDecision(r)}
		if !mk.Ref.Transactional() {
			r.Fail(ErrValue)
		}
		if r.Err() != nil {
			break
		}
		m.List = append(m.List, mk)
	}
	if err := r.Close(); err != nil {
		return Markers{}, err
	}
	return m, nil
}

// EncodeEnlistAnswers appends the command to dst.
func EncodeEnlistAnswers(dst []byte, a EnlistAnswers) ([]byte, error) {
	if len(a.List) > MaxMarkersPerEntry {
		return dst, ErrLimit
	}
	b := codec.AppendVarint(head(dst, KindEnlistAnswers), a.At)
	b = codec.AppendUvarint(b, uint64(len(a.List)))
	for _, ans := range a.List {
		b = codec.AppendUvarint(appendRef(b, ans.Ref), ans.OpenedAt)
		b = append(b, byte(ans.Verdict))
		switch ans.Verdict {
		case VerdictStray:
			b = codec.AppendUvarint(b, uint64(ans.Fence))
		case VerdictInvalid:
		case VerdictDecided:
			if err := validDecision(ans.Decision); err != nil {
				return dst, err
			}
			b = appendDecision(b, ans.Decision)
		default:
			return dst, ErrValue
		}
		if !ans.Ref.Transactional() {
			return dst, ErrValue
		}
	}
	return within(dst, b)
}

// DecodeEnlistAnswers reads what [EncodeEnlistAnswers] wrote.
func DecodeEnlistAnswers(entry []byte) (EnlistAnswers, error) {
	r, err := open(entry, KindEnlistAnswers)
	if err != nil {
		return EnlistAnswers{}, err
	}
	a := EnlistAnswers{At: r.Varint()}
	for range r.Count(MaxMarkersPerEntry) {
		ans := EnlistAnswer{Ref: readRef(r), OpenedAt: r.Uvarint(), Verdict: Verdict(r.Byte())}
		switch ans.Verdict {
		case VerdictStray:
			ans.Fence = readUint32(r)
		case VerdictInvalid:
		case VerdictDecided:
			ans.Decision = readDecision(r)
		default:
			r.Fail(ErrValue)
		}
		if !ans.Ref.Transactional() {
			r.Fail(ErrValue)
		}
		if r.Err() != nil {
			break
		}
		a.List = append(a.List, ans)
	}
	if err := r.Close(); err != nil {
		return EnlistAnswers{}, err
	}
	return a, nil
}
