// Package catalog is the pure core that knows what the cluster is made of: its
// id and signing keys, the partition nodes, the topics, the partitions and the
// shards that host them. It also decides placement: which shards exist, on
// which nodes they have replicas, and which shard a new partition lives in.
//
// It is one of the state machines of the coordinator's Raft group. [Catalog]
// takes a [Command] through [Catalog.Apply] and answers with a [Result]; a
// refusal is a result with a [Code], never an error. Nothing here reads a
// clock, draws a random number or starts a goroutine: times, secrets and ids
// from outside arrive in the command, so every replica computes the same state
// and [Catalog.Snapshot] gives the same bytes for the same state.
//
// # File map
//
//	catalog.go    the state and its queries
//	command.go    the commands, and the limits they are held to
//	result.go     results and the closed list of codes
//	cluster.go    InitCluster, UpdateSettings, keys
//	topic.go      CreateTopic, CreatePartitions, DeleteTopic
//	node.go       RegisterNode, DrainNode and what else happens to nodes
//	acl.go        AddACLs, RemoveACLs
//	shard.go      DrainShard, RemoveShard
//	move.go       MoveReplica, CancelMove, ReportMembers
//	balance.go    which replicas are to move, and which leaders
//	placement.go  replica sets for shards, shards for partitions
//	codec.go      commands as bytes; those of acl.go in codec_acl.go
//	snapshot.go   the state as bytes
//	check.go      the invariants
//
// # Non-obvious
//
//   - Ids of topics, partitions and shards are never handed out twice, also
//     after deletion: the transaction protocol names participants by shard id
//     and a late message must never meet a namesake.
//   - Shard.Replicas is what the shard's Raft group has for members, not what it
//     is to have: a move is a wish beside it until the group's leader reports that
//     it is done. A report names the log index, so a late one changes nothing.
//   - A node that comes back to a shard is another member of its Raft group, with
//     a life of its own (raftstore.NodeID.WithLife). The catalogue hands lives out,
//     never twice in a shard: that is what makes it safe for a node to return, and
//     for a node id to be used with a new disk.
//   - Settings and limits that steer a decision are replicated state or
//     constants, never a replica's configuration file: two replicas with
//     different files would place the same topic differently.
//   - Values inside the state are replaced, never changed in place. What a query
//     returned stays as it was, and callers must not modify it.
package catalog
