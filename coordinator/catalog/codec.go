package catalog

import (
	"errors"
	"math"
	"slices"

	"github.com/oncelog/oncelog/api/codec"
)

// Errors of [DecodeCommand] and [Catalog.Restore]; others come from package codec.
var (
	// ErrVersion reports bytes of a format version, or a command of a kind, that
	// this program does not know.
	ErrVersion = codec.ErrVersion
	// ErrCorrupt reports bytes that no encoder of this package writes.
	ErrCorrupt = errors.New("catalog: bytes are not what was written")
)

// commandVersion is the first byte of every encoded command.
const commandVersion = 1

// The second byte of an encoded command. Never renumber.
const (
	kindInitCluster      = 1
	kindUpdateSettings   = 2
	kindAddKey           = 3
	kindActivateKey      = 4
	kindRemoveKey        = 5
	kindRegisterNode     = 6
	kindUnregisterNode   = 7
	kindCreateTopic      = 8
	kindCreatePartitions = 9
	kindDeleteTopic      = 10
	kindDrainShard       = 11
	kindRemoveShard      = 12
	kindCreateKeptTopic  = 13 // CreateTopic with a retention
	kindAlterTopic       = 14
	kindDeleteTopicByID  = 15
)

// AppendCommand appends the encoded command to b. A nil command appends
// nothing. The result is longer than MaxCommandBytes only if the command's own
// strings and lists are; such a command must not be proposed.
func AppendCommand(b []byte, cmd Command) []byte {
	switch c := cmd.(type) {
	case InitCluster:
		b = appendHead(b, kindInitCluster, c.At)
		b = codec.AppendString(b, c.ClusterID)
		b = codec.AppendBytes(b, c.KeySecret)
		return appendSettings(b, c.Settings)
	case UpdateSettings:
		return appendSettings(appendHead(b, kindUpdateSettings, c.At), c.Settings)
	case AddKey:
		return codec.AppendBytes(appendHead(b, kindAddKey, c.At), c.Secret)
	case ActivateKey:
		return codec.AppendUvarint(appendHead(b, kindActivateKey, c.At), uint64(c.ID))
	case RemoveKey:
		return codec.AppendUvarint(appendHead(b, kindRemoveKey, c.At), uint64(c.ID))
	case RegisterNode:
		b = codec.AppendUvarint(appendHead(b, kindRegisterNode, c.At), c.ID)
		b = codec.AppendString(b, c.ClientAddress)
		b = codec.AppendString(b, c.PeerAddress)
		return codec.AppendString(b, c.Instance)
	case UnregisterNode:
		return codec.AppendUvarint(appendHead(b, kindUnregisterNode, c.At), c.ID)
	case CreateTopic:
		kind := byte(kindCreateTopic)
		if c.Retention != (Retention{}) {
			kind = kindCreateKeptTopic
		}
		b = codec.AppendString(appendHead(b, kind, c.At), c.Name)
		b = codec.AppendUvarint(b, uint64(c.Partitions))
		b = codec.AppendUvarint(b, uint64(c.ReplicationFactor))
		b = appendIDs(b, c.Nodes)
		if kind == kindCreateKeptTopic {
			b = appendRetention(b, c.Retention)
		}
		return b
	case CreatePartitions:
		b = codec.AppendString(appendHead(b, kindCreatePartitions, c.At), c.Name)
		b = codec.AppendUvarint(b, uint64(c.Total))
		return appendIDs(b, c.Nodes)
	case AlterTopic:
		b = codec.AppendUvarint(appendHead(b, kindAlterTopic, c.At), c.TopicID)
		b = codec.AppendBool(codec.AppendBool(b, c.SetMillis), c.SetBytes)
		b = appendRetention(b, c.Retention)
		return codec.AppendUvarint(codec.AppendBool(b, c.CheckVersion), c.Version)
	case DeleteTopic:
		if c.ID != 0 {
			b = codec.AppendString(appendHead(b, kindDeleteTopicByID, c.At), c.Name)
			return codec.AppendUvarint(b, c.ID)
		}
		return codec.AppendString(appendHead(b, kindDeleteTopic, c.At), c.Name)
	case DrainShard:
		return codec.AppendUvarint(appendHead(b, kindDrainShard, c.At), c.ID)
	case RemoveShard:
		return codec.AppendUvarint(appendHead(b, kindRemoveShard, c.At), c.ID)
	default:
		return b
	}
}

// DecodeCommand reads a command written by [AppendCommand]. The command does
// not refer to b.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) > MaxCommandBytes {
		return nil, codec.ErrTooLong
	}
	r := codec.NewReader(b)
	r.Version("catalogue command", commandVersion, commandVersion)
	kind := r.Byte()
	cmd := readBody(r, kind, r.Varint())
	if err := r.Close(); err != nil {
		return nil, err
	}
	return cmd, nil
}

func readBody(r *codec.Reader, kind byte, at int64) Command {
	switch kind {
	case kindInitCluster:
		return InitCluster{At: at, ClusterID: readText(r), KeySecret: readSecret(r), Settings: readSettings(r)}
	case kindUpdateSettings:
		return UpdateSettings{At: at, Settings: readSettings(r)}
	case kindAddKey:
		return AddKey{At: at, Secret: readSecret(r)}
	case kindActivateKey:
		return ActivateKey{At: at, ID: readUint32(r)}
	case kindRemoveKey:
		return RemoveKey{At: at, ID: readUint32(r)}
	case kindRegisterNode:
		return RegisterNode{
			At: at, ID: r.Uvarint(),
			ClientAddress: readText(r), PeerAddress: readText(r), Instance: readText(r),
		}
	case kindUnregisterNode:
		return UnregisterNode{At: at, ID: r.Uvarint()}
	case kindCreateTopic:
		return CreateTopic{
			At: at, Name: readText(r),
			Partitions: readUint32(r), ReplicationFactor: readUint32(r), Nodes: readIDs(r),
		}
	case kindCreateKeptTopic:
		return CreateTopic{
			At: at, Name: readText(r),
			Partitions: readUint32(r), ReplicationFactor: readUint32(r), Nodes: readIDs(r), Retention: readRetention(r),
		}
	case kindCreatePartitions:
		return CreatePartitions{At: at, Name: readText(r), Total: readUint32(r), Nodes: readIDs(r)}
	case kindDeleteTopic:
		return DeleteTopic{At: at, Name: readText(r)}
	case kindAlterTopic:
		return AlterTopic{
			At: at, TopicID: r.Uvarint(), SetMillis: r.Bool(), SetBytes: r.Bool(), Retention: readRetention(r),
			CheckVersion: r.Bool(), Version: r.Uvarint(),
		}
	case kindDeleteTopicByID:
		return DeleteTopic{At: at, Name: readText(r), ID: r.Uvarint()}
	case kindDrainShard:
		return DrainShard{At: at, ID: r.Uvarint()}
	case kindRemoveShard:
		return RemoveShard{At: at, ID: r.Uvarint()}
	default:
		r.UnknownKind("catalogue command", commandVersion, kind)
		return nil
	}
}

func appendHead(b []byte, kind byte, at int64) []byte {
	return codec.AppendVarint(append(b, commandVersion, kind), at)
}

func appendSettings(b []byte, s Settings) []byte {
	b = codec.AppendUvarint(b, uint64(s.ShardsPerNode))
	b = codec.AppendUvarint(b, uint64(s.DefaultPartitions))
	return codec.AppendUvarint(b, uint64(s.DefaultReplicationFactor))
}

func readSettings(r *codec.Reader) Settings {
	return Settings{
		ShardsPerNode:            readUint32(r),
		DefaultPartitions:        readUint32(r),
		DefaultReplicationFactor: readUint32(r),
	}
}

func appendRetention(b []byte, v Retention) []byte {
	return codec.AppendUvarint(codec.AppendUvarint(b, v.Millis), v.Bytes)
}

func readRetention(r *codec.Reader) Retention {
	return Retention{Millis: r.Uvarint(), Bytes: r.Uvarint()}
}

func appendIDs(b []byte, ids []uint64) []byte {
	b = codec.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = codec.AppendUvarint(b, id)
	}
	return b
}

// The readers below bound a field by the input alone, which the caller
// bounds: what is too long for the catalogue must reach Apply, for an entry of
// the log that cannot be decoded would stop every replica.

func readText(r *codec.Reader) string { return r.String(math.MaxInt32) }

func readSecret(r *codec.Reader) []byte { return slices.Clone(r.Bytes(math.MaxInt32)) }

func readIDs(r *codec.Reader) []uint64 {
	n := r.Count(math.MaxInt32)
	if n == 0 {
		return nil
	}
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = r.Uvarint()
	}
	return ids
}

func readUint32(r *codec.Reader) uint32 {
	v := r.Uvarint()
	if v > math.MaxUint32 {
		r.Fail(ErrCorrupt)
		return 0
	}
	return uint32(v)
}
