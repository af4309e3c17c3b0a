package txn

import (
	"errors"

	"github.com/oncelog/oncelog/api/codec"
)

// commandVersion is the first byte of every encoded command. A log outlives the
// program that wrote it: a change of any layout gets a new version, and the old
// one stays readable.
const commandVersion = 1

// kind is the second byte of an encoded command. The numbers are for ever.
type kind byte

const (
	kindInitProducer        kind = 1
	kindAllocateProducerIDs kind = 2
	kindEnlist              kind = 3
	kindEndTransaction      kind = 4
	kindExpire              kind = 5
	kindMarkersApplied      kind = 6
	kindAbortTransaction    kind = 7
	kindFenceProducer       kind = 8
	kindDeleteID            kind = 9
	kindExpireIDs           kind = 10
	kindInitExclusive       kind = 11 // InitProducer with Exclusive
	kindPrepareTransaction  kind = 12
	kindCompletePrepared    kind = 13
)

// Errors of [DecodeCommand], besides those of the codec package.
var (
	// ErrVersion reports a command or snapshot of an unknown version, or a
	// command of an unknown kind.
	ErrVersion = codec.ErrVersion
	// ErrValue reports a value that no encoder writes.
	ErrValue = errors.New("txn: value out of range in a command")
)

// AppendCommand appends the encoding of c, to be executed at the time at.
// A command beyond the limits of this package does not decode: whoever proposes
// one from outside asks [WithinLimits] first.
func AppendCommand(b []byte, at Millis, c Command) []byte {
	b = append(b, commandVersion, byte(c.kind()))
	b = codec.AppendVarint(b, at)
	return c.encode(b)
}

// DecodeCommand reads what [AppendCommand] wrote. The command may share memory
// with b. The errors are those of the codec package, [ErrVersion] and
// [ErrValue].
func DecodeCommand(b []byte) (at Millis, c Command, err error) {
	r := codec.NewReader(b)
	version, k := r.Version("transaction command", commandVersion, commandVersion), kind(r.Byte())
	at = readTime(r)
	switch k {
	case kindInitProducer, kindInitExclusive:
		c = readInitProducer(r, k == kindInitExclusive)
	case kindAllocateProducerIDs:
		c = AllocateProducerIDs{Count: readUint32(r)}
	case kindEnlist:
		c = readEnlist(r)
	case kindEndTransaction:
		c = readEndTransaction(r)
	case kindExpire:
		c = readExpire(r)
	case kindMarkersApplied:
		c = readMarkersApplied(r)
	case kindAbortTransaction:
		c = AbortTransaction{Ref: readRef(r), Force: r.Bool()}
	case kindFenceProducer:
		c = FenceProducer{TransactionalID: r.String(MaxTextLength), Epoch: readUint32(r)}
	case kindDeleteID:
		c = DeleteID{TransactionalID: r.String(MaxTextLength), ProducerID: r.Uvarint()}
	case kindExpireIDs:
		c = readExpireIDs(r)
	case kindPrepareTransaction:
		c = readPrepareTransaction(r)
	case kindCompletePrepared:
		c = CompletePrepared{Ref: readRef(r), Commit: r.Bool()}
	default:
		r.UnknownKind("transaction command", version, byte(k))
	}
	if err := r.Close(); err != nil {
		return 0, nil, err
	}
	return at, c, nil
}

func (c InitProducer) encode(b []byte) []byte {
	b = codec.AppendString(b, c.TransactionalID)
	b = codec.AppendVarint(b, c.Timeout)
	b = append(b, c.RequestID[:]...)
	b = codec.AppendString(b, c.Owner)
	b = codec.AppendString(b, c.ClientHost)
	return codec.AppendBool(b, c.KeepPrepared)
}

func readInitProducer(r *codec.Reader, exclusive bool) InitProducer {
	return InitProducer{
		Exclusive:       exclusive,
		TransactionalID: r.String(MaxTextLength),
		Timeout:         readTime(r),
		RequestID:       readRequestID(r),
		Owner:           r.String(MaxTextLength),
		ClientHost:      r.String(MaxTextLength),
		KeepPrepared:    r.Bool(),
	}
}

func (c AllocateProducerIDs) encode(b []byte) []byte {
	return codec.AppendUvarint(b, uint64(c.Count))
}

func (c Enlist) encode(b []byte) []byte {
	b = codec.AppendUvarint(b, uint64(len(c.Items)))
	for _, item := range c.Items {
		b = appendRef(b, item.Ref)
		b = codec.AppendUvarint(b, item.Shard)
		b = codec.AppendUvarint(b, item.OpenedAt)
		b = codec.AppendVarint(b, item.Age)
		b = appendUint64s(b, item.Partitions)
	}
	return b
}

func readEnlist(r *codec.Reader) Enlist {
	var c Enlist
	for n := r.Count(MaxItems); n > 0 && r.Err() == nil; n-- {
		c.Items = append(c.Items, EnlistItem{
			Ref:        readRef(r),
			Shard:      r.Uvarint(),
			OpenedAt:   r.Uvarint(),
			Age:        readTime(r),
			Partitions: readUint64s(r, MaxPartitions),
		})
	}
	return c
}

func (c EndTransaction) encode(b []byte) []byte {
	b = appendRef(b, c.Ref)
	b = appendParticipants(codec.AppendBool(b, c.Commit), c.Participants)
	return codec.AppendBytes(b, c.OffsetsPayload)
}

func appendParticipants(b []byte, list []Participant) []byte {
	b = codec.AppendUvarint(b, uint64(len(list)))
	for _, pt := range list {
		b = codec.AppendUvarint(b, pt.Shard)
		b = appendProgress(b, pt.Progress)
	}
	return b
}

func readParticipants(r *codec.Reader) (list []Participant) {
	for n := r.Count(MaxItems); n > 0 && r.Err() == nil; n-- {
		list = append(list, Participant{Shard: r.Uvarint(), Progress: readProgress(r)})
	}
	return list
}

func readEndTransaction(r *codec.Reader) EndTransaction {
	return EndTransaction{Ref: readRef(r), Commit: r.Bool(), Participants: readParticipants(r), OffsetsPayload: readOffsets(r)}
}

// readOffsets reads a payload; none is nil.
func readOffsets(r *codec.Reader) []byte {
	if payload := r.Bytes(MaxOffsetsPayload); len(payload) > 0 {
		return payload
	}
	return nil
}

func (c PrepareTransaction) encode(b []byte) []byte {
	b = appendParticipants(appendRef(b, c.Ref), c.Participants)
	return codec.AppendBytes(b, c.OffsetsPayload)
}

func readPrepareTransaction(r *codec.Reader) PrepareTransaction {
	return PrepareTransaction{Ref: readRef(r), Participants: readParticipants(r), OffsetsPayload: readOffsets(r)}
}

func (c CompletePrepared) encode(b []byte) []byte {
	return codec.AppendBool(appendRef(b, c.Ref), c.Commit)
}

func (c Expire) encode(b []byte) []byte {
	b = codec.AppendUvarint(b, uint64(len(c.Refs)))
	for _, ref := range c.Refs {
		b = appendRef(b, ref)
	}
	return b
}

func readExpire(r *codec.Reader) Expire {
	var c Expire
	for n := r.Count(MaxItems); n > 0 && r.Err() == nil; n-- {
		c.Refs = append(c.Refs, readRef(r))
	}
	return c
}

func (c MarkersApplied) encode(b []byte) []byte {
	b = codec.AppendUvarint(b, uint64(len(c.Items)))
	for _, item := range c.Items {
		b = appendRef(b, item.Ref)
		b = codec.AppendUvarint(b, item.Shard)
		b = append(b, byte(item.Answer))
	}
	return b
}

func readMarkersApplied(r *codec.Reader) MarkersApplied {
	var c MarkersApplied
	for n := r.Count(MaxItems); n > 0 && r.Err() == nil; n-- {
		item := MarkerAck{Ref: readRef(r), Shard: r.Uvarint(), Answer: MarkerAnswer(r.Byte())}
		if !item.Answer.legal() {
			r.Fail(ErrValue)
		}
		c.Items = append(c.Items, item)
	}
	return c
}

func (c AbortTransaction) encode(b []byte) []byte {
	return codec.AppendBool(appendRef(b, c.Ref), c.Force)
}

func (c FenceProducer) encode(b []byte) []byte {
	return codec.AppendUvarint(codec.AppendString(b, c.TransactionalID), uint64(c.Epoch))
}

func (c DeleteID) encode(b []byte) []byte {
	return codec.AppendUvarint(codec.AppendString(b, c.TransactionalID), c.ProducerID)
}

func (c ExpireIDs) encode(b []byte) []byte { return appendUint64s(b, c.ProducerIDs) }

func readExpireIDs(r *codec.Reader) ExpireIDs {
	return ExpireIDs{ProducerIDs: readUint64s(r, MaxItems)}
}
