package catalog

import "strconv"

// Code says how a command was answered. The list is closed.
type Code uint8

// The codes. Every one but CodeOK means that nothing changed.
const (
	// CodeOK: done, or already so (see [Result.Changed]).
	CodeOK Code = iota
	// CodeInvalidCommand: not a command of this package.
	CodeInvalidCommand
	// CodeNotInitialized: InitCluster has to come first.
	CodeNotInitialized
	// CodeInvalidClusterID: empty, too long, or a character that is not allowed.
	CodeInvalidClusterID
	// CodeInvalidSettings: a setting above its limit.
	CodeInvalidSettings
	// CodeInvalidKey: a secret that is too short or too long.
	CodeInvalidKey
	// CodeUnknownKey: no key with this id.
	CodeUnknownKey
	// CodeKeyInUse: the active key cannot be removed.
	CodeKeyInUse
	// CodeInvalidNode: node id 0, or an address or instance that is empty or too long.
	CodeInvalidNode
	// CodeNodeMismatch: the node id belongs to another data directory.
	CodeNodeMismatch
	// CodeUnknownNode: no node with this id.
	CodeUnknownNode
	// CodeNodeInUse: shards have replicas on the node; Have tells how many.
	CodeNodeInUse
	// CodeInvalidTopicName: breaks Kafka's rules for topic names.
	CodeInvalidTopicName
	// CodeTopicExists: the name is taken; Topic is the one that has it.
	CodeTopicExists
	// CodeUnknownTopic: no topic with this name.
	CodeUnknownTopic
	// CodeInvalidPartitions: more partitions than a topic may have, or, for
	// CreatePartitions, not more than it has. Need and Have tell both numbers.
	CodeInvalidPartitions
	// CodeInvalidReplicationFactor: above MaxReplicationFactor (Have).
	CodeInvalidReplicationFactor
	// CodeInsufficientNodes: the replication factor (Need) is above the number
	// of usable nodes (Have).
	CodeInsufficientNodes
	// CodeUnknownShard: no shard with this id.
	CodeUnknownShard
	// CodeShardInUse: the shard has partitions (Have), or is not draining.
	CodeShardInUse
	// CodeLimitExceeded: a limit of the cluster; Need is the number it would
	// take, Have the limit.
	CodeLimitExceeded
	// CodeInvalidRetention: a number of retention or cleanup above MaxRetention, or an
	// unknown policy.
	CodeInvalidRetention
	// CodeTopicChanged: the topic was altered since; Have is its version now.
	CodeTopicChanged
	// CodeNodeRemoved: the data directory is that of a node that was removed.
	CodeNodeRemoved
	// CodeNoMajority: after this shard Have would have lost so many copies (Need) that
	// no majority is left.
	CodeNoMajority
	// CodeNodeDraining: a draining node gets no replicas.
	CodeNodeDraining
	// CodeInvalidMove: From has no replica of the shard, or To has one.
	CodeInvalidMove
	// CodeMoveUnderWay: the shard has another move.
	CodeMoveUnderWay
	// CodeTooManyMoves: as many moves as a node may have (Have) are under way for
	// one of the two (Need).
	CodeTooManyMoves
	// CodeUnexpectedMembers: a report that fits neither the shard nor its move.
	CodeUnexpectedMembers
	// CodeInvalidACL: a rule that breaks its limits; see acl.Rule.Problem.
	CodeInvalidACL

	codeEnd // keep last
)

// String returns the code's stable name.
func (c Code) String() string {
	if c >= codeEnd {
		return "CODE_" + strconv.Itoa(int(c))
	}
	return [codeEnd]string{
		CodeOK:                       "OK",
		CodeInvalidCommand:           "INVALID_COMMAND",
		CodeNotInitialized:           "NOT_INITIALIZED",
		CodeInvalidClusterID:         "INVALID_CLUSTER_ID",
		CodeInvalidSettings:          "INVALID_SETTINGS",
		CodeInvalidKey:               "INVALID_KEY",
		CodeUnknownKey:               "UNKNOWN_KEY",
		CodeKeyInUse:                 "KEY_IN_USE",
		CodeInvalidNode:              "INVALID_NODE",
		CodeNodeMismatch:             "NODE_MISMATCH",
		CodeUnknownNode:              "UNKNOWN_NODE",
		CodeNodeInUse:                "NODE_IN_USE",
		CodeInvalidTopicName:         "INVALID_TOPIC_NAME",
		CodeTopicExists:              "TOPIC_EXISTS",
		CodeUnknownTopic:             "UNKNOWN_TOPIC",
		CodeInvalidPartitions:        "INVALID_PARTITIONS",
		CodeInvalidReplicationFactor: "INVALID_REPLICATION_FACTOR",
		CodeInsufficientNodes:        "INSUFFICIENT_NODES",
		CodeUnknownShard:             "UNKNOWN_SHARD",
		CodeShardInUse:               "SHARD_IN_USE",
		CodeLimitExceeded:            "LIMIT_EXCEEDED",
		CodeInvalidRetention:         "INVALID_RETENTION",
		CodeTopicChanged:             "TOPIC_CHANGED",
		CodeNodeRemoved:              "NODE_REMOVED",
		CodeNoMajority:               "NO_MAJORITY",
		CodeNodeDraining:             "NODE_DRAINING",
		CodeInvalidMove:              "INVALID_MOVE",
		CodeMoveUnderWay:             "MOVE_UNDER_WAY",
		CodeTooManyMoves:             "TOO_MANY_MOVES",
		CodeUnexpectedMembers:        "UNEXPECTED_MEMBERS",
		CodeInvalidACL:               "INVALID_ACL",
	}[c]
}

// Codes returns every code, in order, for tables that must cover them all.
func Codes() []Code {
	all := make([]Code, codeEnd)
	for i := range all {
		all[i] = Code(i)
	}
	return all
}

// ShardPartitions names partitions of one shard, ascending.
type ShardPartitions struct {
	Shard      uint64
	Partitions []uint64
}

// Result is the answer to one command.
type Result struct {
	Code    Code
	Changed bool   // whether the state is another one than before
	Version uint64 // the catalogue's version after the command

	// Need and Have explain a refusal: what the command asked for or would
	// take, and what there is or is allowed. See the codes.
	Need, Have uint64

	ClusterID string            // InitCluster: the id that holds
	KeyID     uint32            // AddKey: the key's id
	Node      Node              // node commands: the node as it is now; UnregisterNode: as it was
	Shard     Shard             // commands about moves: as it is now
	Topic     Topic             // topic commands: as it is now, or was before DeleteTopic
	Removed   []ShardPartitions // DeleteTopic: by ascending shard id
}

func refuse(code Code) Result { return Result{Code: code} }

func refuseNumbers(code Code, need, have int) Result {
	return Result{Code: code, Need: uint64(max(need, 0)), Have: uint64(max(have, 0))}
}
