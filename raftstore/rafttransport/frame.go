package rafttransport

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/wire"
	"github.com/oncelog/oncelog/raftstore"
)

// Numbers of the fields on the way to an entry's data.
const (
	messagesField protowire.Number = 4 // ExchangeRequest.messages
	messageField  protowire.Number = 2 // RaftMessage.message
	entriesField  protowire.Number = 7 // raftpb.Message.entries
	dataField     protowire.Number = 4 // raftpb.Entry.Data
)

// messageShape is where the entries' data are in a message of Raft.
var messageShape = &wire.Shape{Nested: entriesField, Of: &wire.Shape{Payload: dataField}}

// frame is an ExchangeRequest of messages that are encoded when it is sent. Entries
// are sent to every peer from the one place where they are: nobody changes them.
type frame struct {
	header *oncelogv1.ExchangeRequest // without messages
	msgs   []raftstore.Message
	sizes  []int // of the messages, encoded
	size   int   // of all of them
}

func (f *frame) add(m raftstore.Message, size int) {
	f.msgs = append(f.msgs, m)
	f.sizes = append(f.sizes, size)
	f.size += size
}

func (f *frame) clear() {
	clear(f.msgs)
	f.msgs, f.sizes, f.size = f.msgs[:0], f.sizes[:0], 0
}

// MarshalWire implements [wire.Marshaler].
func (f *frame) MarshalWire() (mem.BufferSlice, error) {
	var b wire.Builder
	if err := b.Proto(f.header); err != nil {
		return nil, err
	}
	for i, m := range f.msgs {
		envelope := &oncelogv1.RaftMessage{GroupId: uint64(m.Group)}
		b.Head(messagesField, proto.Size(envelope)+wire.FieldSize(messageField, f.sizes[i]))
		if err := b.Proto(envelope); err != nil {
			return nil, err
		}
		b.Head(messageField, f.sizes[i])
		before := b.Len()
		if err := appendMessage(&b, m.Raft); err != nil {
			return nil, err
		}
		if n := b.Len() - before; n != f.sizes[i] {
			return nil, fmt.Errorf("a %v message of %d bytes has become %d", m.Raft.GetType(), f.sizes[i], n)
		}
	}
	return b.Message(), nil
}

// appendMessage encodes a message of Raft, entries last.
func appendMessage(b *wire.Builder, m *raftpb.Message) error {
	if len(m.Entries) == 0 || !simple(m) {
		return b.Proto(m)
	}
	if err := b.Proto(&raftpb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, LogTerm: m.LogTerm, Index: m.Index, Commit: m.Commit, Vote: m.Vote,
		Snapshot: m.Snapshot, Reject: m.Reject, RejectHint: m.RejectHint, Context: m.Context, Responses: m.Responses,
	}); err != nil {
		return err
	}
	for _, e := range m.Entries {
		b.Head(entriesField, proto.Size(e))
		if err := b.Proto(&raftpb.Entry{Term: e.Term, Index: e.Index, Type: e.Type}); err != nil {
			return err
		}
		if e.Data != nil {
			b.Payload(dataField, e.Data)
		}
	}
	return nil
}

// simple reports that appendMessage knows everything that a message has.
func simple(m *raftpb.Message) bool {
	for _, e := range m.Entries {
		if e == nil || len(e.ProtoReflect().GetUnknown()) > 0 {
			return false
		}
	}
	return len(m.ProtoReflect().GetUnknown()) == 0
}

// decodeMessage decodes a message of Raft. The data of its entries are parts of b,
// which is the message's from now on.
func decodeMessage(b []byte) (*raftpb.Message, error) {
	m := &raftpb.Message{}
	cut, err := wire.Split(b, messageShape)
	if err != nil || proto.Unmarshal(cut.Rest, m) != nil || len(cut.Payloads) != len(m.Entries) {
		return m, proto.Unmarshal(b, m) // which says what is wrong with it
	}
	for i, e := range m.Entries {
		if len(cut.Payloads[i]) > 0 {
			e.Data = cut.Payloads[i]
		}
	}
	return m, nil
}
