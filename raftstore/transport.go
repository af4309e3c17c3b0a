package raftstore

import (
	"errors"

	"go.etcd.io/raft/v3/raftpb"
)

// Message is one Raft message of one group.
type Message struct {
	Group GroupID
	// Raft must not be modified by anybody.
	Raft *raftpb.Message
}

// ErrUnreachable is a Transport's answer when it drops messages because the
// peer is not connected or its queue is full.
var ErrUnreachable = errors.New("raftstore: peer unreachable")

// Transport carries messages to other nodes. Its methods are called by the
// owner loop and must never block. Messages may be lost, repeated and
// reordered; they must not be altered. What arrives goes to Store.Deliver.
type Transport interface {
	// Send queues the messages for a node in one frame, or drops them and
	// returns an error. The slice is the caller's again when Send returns.
	Send(to NodeID, msgs []Message) error
	// SendChunk sends a part of a snapshot on a path of its own, to
	// Store.DeliverChunk there, and calls done, from any goroutine or inline, with
	// the answer or with why there is none. A done that is never called costs a
	// quarter of Config.SnapshotTimeout.
	SendChunk(to NodeID, c SnapshotChunk, done func(SnapshotAnswer))
}

// noTransport belongs to a cluster of one node.
type noTransport struct{}

func (noTransport) Send(NodeID, []Message) error { return ErrUnreachable }

func (noTransport) SendChunk(_ NodeID, _ SnapshotChunk, done func(SnapshotAnswer)) {
	done(SnapshotAnswer{Err: ErrUnreachable})
}
