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

// commandVersion is the newest version of commands, whose number is the first byte of
// each. A command is written in the oldest version that can say it, so that members of
// an older release stop at nothing that they could have done. Version 2 has
// CreateTopic and AlterTopic with a cleanup, and nothing else.
const (
	commandVersion       = 2
	oldestCommandVersion = 1
)

// The second byte of an encoded command. Never renumber.
const (
	kindInitCluster        = 1
	kindUpdateSettings     = 2
	kindAddKey             = 3
	kindActivateKey        = 4
	kindRemoveKey          = 5
	kindRegisterNode       = 6
	kindUnregisterNode     = 7
	kindCreateTopic        = 8
	kindCreatePartitions   = 9
	kindDeleteTopic        = 10
	kindDrainShard         = 11
	kindRemoveShard        = 12
	kindCreateKeptTopic    = 13 // CreateTopic with a retention
	kindAlterTopic         = 14
	kindDeleteTopicByID    = 15
	kindRegisterKnown      = 16 // RegisterNode with a directory of this cluster
	kindDrainNode          = 17
	kindLoseDisk           = 18
	kindMoveReplica        = 19
	kindCancelMove         = 20
	kindReportMembers      = 21
	kindRebalance          = 22
	kindEndRebalance       = 23
	kindAddACLs            = 24
	kindRemoveACLs         = 25
	kindLoseInstance       = 30 // LoseDisk of one data directory; from level 2 on
	kindUnregisterInstance = 31 // UnregisterNode of one data directory; from level 2 on
	kindLoseReplica        = 32 // from level 2 on
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
		kind := byte(kindRegisterNode)
		if c.Known {
			kind = kindRegisterKnown
		}
		b = codec.AppendUvarint(appendHead(b, kind, c.At), c.ID)
		b = codec.AppendString(b, c.ClientAddress)
		b = codec.AppendString(b, c.PeerAddress)
		return codec.AppendString(b, c.Instance)
	case UnregisterNode:
		if c.Instance != "" {
			return codec.AppendString(codec.AppendUvarint(appendHead(b, kindUnregisterInstance, c.At), c.ID), c.Instance)
		}
		return codec.AppendUvarint(appendHead(b, kindUnregisterNode, c.At), c.ID)
	case CreateTopic:
		if c.Cleanup != (Cleanup{}) {
			b = codec.AppendString(appendHeadOf(b, true, kindCreateKeptTopic, c.At), c.Name)
			b = codec.AppendUvarint(b, uint64(c.Partitions))
			b = appendIDs(codec.AppendUvarint(b, uint64(c.ReplicationFactor)), c.Nodes)
			return appendCleanup(appendRetention(b, c.Retention), c.Cleanup)
		}
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
		cleanup := c.SetPolicy || c.SetMinLag || c.SetDeleteRetention || c.Cleanup != Cleanup{}
		b = appendHeadOf(b, cleanup, kindAlterTopic, c.At)
		b = codec.AppendUvarint(b, c.TopicID)
		b = codec.AppendBool(codec.AppendBool(b, c.SetMillis), c.SetBytes)
		b = appendRetention(b, c.Retention)
		b = codec.AppendUvarint(codec.AppendBool(b, c.CheckVersion), c.Version)
		if cleanup {
			b = codec.AppendBool(codec.AppendBool(codec.AppendBool(b, c.SetPolicy), c.SetMinLag), c.SetDeleteRetention)
			b = appendCleanup(b, c.Cleanup)
		}
		return b
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
		return appendMoveCommand(b, cmd)
	}
}

// appendMoveCommand is AppendCommand for what moves replicas.
func appendMoveCommand(b []byte, cmd Command) []byte {
	switch c := cmd.(type) {
	case DrainNode:
		return codec.AppendBool(codec.AppendUvarint(appendHead(b, kindDrainNode, c.At), c.ID), c.Undo)
	case LoseDisk:
		if c.Instance != "" {
			return codec.AppendString(codec.AppendUvarint(appendHead(b, kindLoseInstance, c.At), c.ID), c.Instance)
		}
		return codec.AppendUvarint(appendHead(b, kindLoseDisk, c.At), c.ID)
	case LoseReplica:
		b = codec.AppendUvarint(appendHead(b, kindLoseReplica, c.At), c.Shard)
		return codec.AppendUvarint(codec.AppendUvarint(b, c.Node), uint64(c.Life))
	case MoveReplica:
		b = codec.AppendUvarint(appendHead(b, kindMoveReplica, c.At), c.Shard)
		return codec.AppendUvarint(codec.AppendUvarint(b, c.From), c.To)
	case CancelMove:
		return codec.AppendUvarint(appendHead(b, kindCancelMove, c.At), c.Shard)
	case ReportMembers:
		b = codec.AppendUvarint(appendHead(b, kindReportMembers, c.At), c.Shard)
		b = codec.AppendUvarint(codec.AppendUvarint(b, c.Index), c.Seen)
		b = codec.AppendUvarint(b, uint64(len(c.Members)))
		for _, m := range c.Members {
			b = codec.AppendUvarint(codec.AppendUvarint(b, m.Node), uint64(m.Life))
		}
		return b
	case Rebalance:
		return appendHead(b, kindRebalance, c.At)
	case EndRebalance:
		return codec.AppendUvarint(appendHead(b, kindEndRebalance, c.At), c.Since)
	default:
		return appendACLCommand(b, cmd)
	}
}

// DecodeCommand reads a command written by [AppendCommand]. The command does
// not refer to b.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) > MaxCommandBytes {
		return nil, codec.ErrTooLong
	}
	r := codec.NewReader(b)
	version := r.Version("catalogue command", oldestCommandVersion, commandVersion)
	kind := r.Byte()
	at := r.Varint()
	var cmd Command
	if version == 1 {
		cmd = readBody(r, kind, at)
	} else {
		cmd = readBody2(r, kind, at)
	}
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
	case kindRegisterNode, kindRegisterKnown:
		return RegisterNode{
			At: at, ID: r.Uvarint(), Known: kind == kindRegisterKnown,
			ClientAddress: readText(r), PeerAddress: readText(r), Instance: readText(r),
		}
	case kindUnregisterNode:
		return UnregisterNode{At: at, ID: r.Uvarint()}
	case kindUnregisterInstance:
		return UnregisterNode{At: at, ID: r.Uvarint(), Instance: readText(r)}
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
	case kindDrainNode:
		return DrainNode{At: at, ID: r.Uvarint(), Undo: r.Bool()}
	case kindLoseDisk:
		return LoseDisk{At: at, ID: r.Uvarint()}
	case kindLoseInstance:
		return LoseDisk{At: at, ID: r.Uvarint(), Instance: readText(r)}
	case kindLoseReplica:
		return LoseReplica{At: at, Shard: r.Uvarint(), Node: r.Uvarint(), Life: readUint32(r)}
	case kindMoveReplica:
		return MoveReplica{At: at, Shard: r.Uvarint(), From: r.Uvarint(), To: r.Uvarint()}
	case kindCancelMove:
		return CancelMove{At: at, Shard: r.Uvarint()}
	case kindReportMembers:
		return ReportMembers{At: at, Shard: r.Uvarint(), Index: r.Uvarint(), Seen: r.Uvarint(), Members: readReplicas(r)}
	case kindRebalance:
		return Rebalance{At: at}
	case kindEndRebalance:
		return EndRebalance{At: at, Since: r.Uvarint()}
	case kindAddACLs:
		return AddACLs{At: at, Rules: commandRules(r)}
	case kindRemoveACLs:
		return RemoveACLs{At: at, Rules: commandRules(r)}
	case kindDrainShard:
		return DrainShard{At: at, ID: r.Uvarint()}
	case kindRemoveShard:
		return RemoveShard{At: at, ID: r.Uvarint()}
	default:
		r.UnknownKind("catalogue command", oldestCommandVersion, kind)
		return nil
	}
}

// readBody2 is readBody for version 2.
func readBody2(r *codec.Reader, kind byte, at int64) Command {
	switch c := readBody(r, kind, at).(type) {
	case CreateTopic:
		if kind == kindCreateKeptTopic {
			c.Cleanup = readCleanup(r)
			return c
		}
	case AlterTopic:
		c.SetPolicy, c.SetMinLag, c.SetDeleteRetention = r.Bool(), r.Bool(), r.Bool()
		c.Cleanup = readCleanup(r)
		return c
	}
	r.UnknownKind("catalogue command", 2, kind)
	return nil
}

func appendHead(b []byte, kind byte, at int64) []byte {
	return codec.AppendVarint(append(b, oldestCommandVersion, kind), at)
}

// appendHeadOf begins a command of version 2 if it has a cleanup, else of version 1.
func appendHeadOf(b []byte, cleanup bool, kind byte, at int64) []byte {
	if !cleanup {
		return appendHead(b, kind, at)
	}
	return codec.AppendVarint(append(b, 2, kind), at)
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

func appendCleanup(b []byte, v Cleanup) []byte {
	return codec.AppendUvarint(codec.AppendUvarint(append(b, byte(v.Policy)), v.MinLag), v.DeleteRetention)
}

func readCleanup(r *codec.Reader) Cleanup {
	return Cleanup{Policy: Policy(r.Byte()), MinLag: r.Uvarint(), DeleteRetention: r.Uvarint()}
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

func readReplicas(r *codec.Reader) []Replica {
	n := r.Count(math.MaxInt32)
	if n == 0 {
		return nil
	}
	out := make([]Replica, n)
	for i := range out {
		out[i] = Replica{Node: r.Uvarint(), Life: readUint32(r)}
	}
	return out
}

func readUint32(r *codec.Reader) uint32 {
	v := r.Uvarint()
	if v > math.MaxUint32 {
		r.Fail(ErrCorrupt)
		return 0
	}
	return uint32(v)
}
