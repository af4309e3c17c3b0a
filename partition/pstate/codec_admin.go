package pstate

import (
	"slices"

	"github.com/oncelog/oncelog/api/codec"
)

// EncodeSyncPartitions appends the command to dst.
func EncodeSyncPartitions(dst []byte, c SyncPartitions) ([]byte, error) {
	if len(c.Add) > MaxSyncPartitions || len(c.Remove) > MaxSyncPartitions {
		return dst, ErrLimit
	}
	cleanup := slices.ContainsFunc(c.Add, func(info PartitionInfo) bool { return info.Cleanup != Cleanup{} })
	b := head(dst, KindSyncPartitions)
	if cleanup {
		b = head2(dst, KindSyncPartitions)
	}
	b = codec.AppendVarint(b, c.At)
	b = codec.AppendUvarint(b, c.Version)
	b = codec.AppendBool(b, c.Full)
	b = codec.AppendUvarint(b, c.From)
	b = codec.AppendUvarint(b, uint64(len(c.Add)))
	for _, info := range c.Add {
		if len(info.Topic) > MaxTopicName || info.Retention.Millis < 0 ||
			info.Retention.Millis > MaxRetention || info.Retention.Bytes > MaxRetention || !info.Cleanup.valid() {
			return dst, ErrLimit
		}
		b = appendInfo(b, info, cleanup)
	}
	b = codec.AppendUvarint(b, uint64(len(c.Remove)))
	for _, id := range c.Remove {
		b = codec.AppendUvarint(b, id)
	}
	return within(dst, b)
}

func (c Cleanup) valid() bool {
	return c.MinLag >= 0 && c.MinLag <= MaxRetention && c.DeleteRetention >= 0 && c.DeleteRetention <= MaxRetention
}

func appendInfo(b []byte, info PartitionInfo, cleanup bool) []byte {
	b = codec.AppendUvarint(b, info.ID)
	b = codec.AppendUvarint(b, info.TopicID)
	b = codec.AppendString(b, info.Topic)
	b = codec.AppendUvarint(b, uint64(info.Index))
	b = codec.AppendUvarint(b, uint64(info.Retention.Millis))
	b = codec.AppendUvarint(b, info.Retention.Bytes)
	if !cleanup {
		return b
	}
	b = codec.AppendUvarint(codec.AppendBool(b, info.Cleanup.Compact), uint64(info.Cleanup.MinLag))
	return codec.AppendUvarint(b, uint64(info.Cleanup.DeleteRetention))
}

// readInfo reads what a format has of a partition: the oldest snapshots have no
// retention, and not all have the cleanup.
func readInfo(r *codec.Reader, retention, cleanup bool) PartitionInfo {
	info := PartitionInfo{ID: r.Uvarint(), TopicID: r.Uvarint(), Topic: r.String(MaxTopicName), Index: readUint32(r)}
	if !retention {
		return info
	}
	millis, bytes := r.Uvarint(), r.Uvarint()
	if millis > MaxRetention || bytes > MaxRetention {
		r.Fail(ErrValue)
		return info
	}
	info.Retention = Retention{Millis: Millis(millis), Bytes: bytes}
	if !cleanup {
		return info
	}
	compact, lag, keep := r.Bool(), r.Uvarint(), r.Uvarint()
	if lag > MaxRetention || keep > MaxRetention {
		r.Fail(ErrValue)
		return info
	}
	info.Cleanup = Cleanup{Compact: compact, MinLag: Millis(lag), DeleteRetention: Millis(keep)}
	return info
}

// DecodeSyncPartitions reads what [EncodeSyncPartitions] wrote.
func DecodeSyncPartitions(entry []byte) (SyncPartitions, error) {
	r, err := open(entry, KindSyncPartitions)
	if err != nil {
		return SyncPartitions{}, err
	}
	c := SyncPartitions{At: r.Varint(), Version: r.Uvarint(), Full: r.Bool(), From: r.Uvarint()}
	for range r.Count(MaxSyncPartitions) {
		info := readInfo(r, true, entry[0] > 1)
		if r.Err() != nil {
			break
		}
		c.Add = append(c.Add, info)
	}
	c.Remove = readIDs(r, MaxSyncPartitions)
	if err := r.Close(); err != nil {
		return SyncPartitions{}, err
	}
	return c, nil
}

func readIDs(r *codec.Reader, limit int) []uint64 {
	n := r.Count(limit)
	if n == 0 {
		return nil
	}
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = r.Uvarint()
	}
	return ids
}

// EncodeForget appends the command to dst.
func EncodeForget(dst []byte, f Forget) ([]byte, error) {
	if len(f.Producers) > MaxForget {
		return dst, ErrLimit
	}
	b := codec.AppendVarint(head(dst, KindForget), f.At)
	b = codec.AppendUvarint(b, uint64(len(f.Producers)))
	for _, id := range f.Producers {
		b = codec.AppendUvarint(b, id)
	}
	return within(dst, b)
}

// DecodeForget reads what [EncodeForget] wrote.
func DecodeForget(entry []byte) (Forget, error) {
	r, err := open(entry, KindForget)
	if err != nil {
		return Forget{}, err
	}
	f := Forget{At: r.Varint(), Producers: readIDs(r, MaxForget)}
	if err := r.Close(); err != nil {
		return Forget{}, err
	}
	return f, nil
}

// EncodeAdvanceLogStarts appends the command to dst.
func EncodeAdvanceLogStarts(dst []byte, c AdvanceLogStarts) ([]byte, error) {
	if len(c.Starts) > MaxLogStarts {
		return dst, ErrLimit
	}
	b := codec.AppendVarint(head(dst, KindAdvanceLogStarts), c.At)
	b = codec.AppendUvarint(b, uint64(len(c.Starts)))
	for _, to := range c.Starts {
		b = codec.AppendUvarint(codec.AppendUvarint(b, to.Partition), to.Start)
	}
	return within(dst, b)
}

// DecodeAdvanceLogStarts reads what [EncodeAdvanceLogStarts] wrote.
func DecodeAdvanceLogStarts(entry []byte) (AdvanceLogStarts, error) {
	r, err := open(entry, KindAdvanceLogStarts)
	if err != nil {
		return AdvanceLogStarts{}, err
	}
	c := AdvanceLogStarts{At: r.Varint()}
	for range r.Count(MaxLogStarts) {
		c.Starts = append(c.Starts, LogStart{Partition: r.Uvarint(), Start: r.Uvarint()})
	}
	if err := r.Close(); err != nil {
		return AdvanceLogStarts{}, err
	}
	return c, nil
}

// EncodeConfigure appends the command to dst.
func EncodeConfigure(dst []byte, c Configure) []byte {
	return appendConfig(codec.AppendVarint(head(dst, KindConfigure), c.At), c.Config)
}

// DecodeConfigure reads what [EncodeConfigure] wrote.
func DecodeConfigure(entry []byte) (Configure, error) {
	r, err := open(entry, KindConfigure)
	if err != nil {
		return Configure{}, err
	}
	c := Configure{At: r.Varint(), Config: readConfig(r)}
	if err := r.Close(); err != nil {
		return Configure{}, err
	}
	return c, nil
}

func appendConfig(b []byte, c Config) []byte {
	b = codec.AppendVarint(b, c.ProducerExpiration)
	for _, v := range []uint32{
		c.RangesKept, c.MaxOpenPerProducer, c.MaxPartitions, c.MaxProducers, c.MaxSequences, c.MaxBatchBytes,
	} {
		b = codec.AppendUvarint(b, uint64(v))
	}
	return b
}

func readConfig(r *codec.Reader) Config {
	c := Config{ProducerExpiration: r.Varint()}
	for _, v := range []*uint32{
		&c.RangesKept, &c.MaxOpenPerProducer, &c.MaxPartitions, &c.MaxProducers, &c.MaxSequences, &c.MaxBatchBytes,
	} {
		*v = readUint32(r)
	}
	return c
}
