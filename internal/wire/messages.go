package wire

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Numbers of the fields on the way to the payloads.
const (
	requestsField   protowire.Number = 1 // AppendStreamRequest.requests
	partitionsField protowire.Number = 4 // AppendRequest.partitions
	batchField      protowire.Number = 4 // PartitionAppend.batch
	batchesField    protowire.Number = 6 // FetchResponse.batches
	fetchedField    protowire.Number = 3 // FetchedBatch.batch
	messagesField   protowire.Number = 4 // ExchangeRequest.messages
	messageField    protowire.Number = 2 // RaftMessage.message
)

var (
	appendShape = &Shape{Nested: requestsField, Of: &Shape{Nested: partitionsField, Of: &Shape{Payload: batchField}}}
	fetchShape  = &Shape{Nested: batchesField, Of: &Shape{Payload: fetchedField}}
	// exchangeShape is only for what arrives: rafttransport encodes its frames.
	exchangeShape = &Shape{Nested: messagesField, Of: &Shape{Payload: messageField}}
)

func fillAppends(m *oncelogv1.AppendStreamRequest, s *slots) {
	for _, r := range m.GetRequests() {
		for _, p := range r.GetPartitions() {
			payload := s.next()
			if b, ok := p.GetPayload().(*oncelogv1.PartitionAppend_Batch); ok && len(payload) > 0 {
				b.Batch = payload
			}
		}
	}
}

func fillFetched(m *oncelogv1.FetchResponse, s *slots) {
	for _, b := range m.GetBatches() {
		if payload := s.next(); len(payload) > 0 {
			b.Batch = payload
		}
	}
}

func fillExchange(m *oncelogv1.ExchangeRequest, s *slots) {
	for _, rm := range m.GetMessages() {
		if payload := s.next(); len(payload) > 0 {
			rm.Message = payload
		}
	}
}

// part is a message without its payloads, as encoded, and the size with them.
type part struct {
	rest []byte
	size int
}

// encoded encodes what a message has besides payloads; ok is false if that cannot
// be done, and package proto shall say why.
func encoded(m proto.Message, known bool) (rest []byte, ok bool) {
	if !known {
		return nil, false
	}
	rest, err := proto.Marshal(m)
	return rest, err == nil
}

// known reports that a message has no fields but those of this version.
func known(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) == 0 }

// marshalAppends encodes a frame of appends; ok is false if package proto is to do it.
func marshalAppends(m *oncelogv1.AppendStreamRequest) (_ mem.BufferSlice, ok bool) {
	if !known(m) || !anyLarge(m) {
		return nil, false
	}
	var b Builder
	for _, r := range m.GetRequests() {
		if r == nil || !appendRequest(&b, r) {
			return nil, false
		}
	}
	return b.Message(), true
}

func anyLarge(m *oncelogv1.AppendStreamRequest) bool {
	for _, r := range m.GetRequests() {
		for _, p := range r.GetPartitions() {
			if len(p.GetBatch()) >= attachFrom {
				return true
			}
		}
	}
	return false
}

func appendRequest(b *Builder, r *oncelogv1.AppendRequest) bool {
	rest, ok := encoded(&oncelogv1.AppendRequest{
		RequestId: r.GetRequestId(), Txn: r.GetTxn(), ProducerToken: r.GetProducerToken(), Trace: r.GetTrace(),
	}, known(r))
	if !ok {
		return false
	}
	size := len(rest)
	parts := make([]part, len(r.GetPartitions()))
	for i, p := range r.GetPartitions() {
		shell := &oncelogv1.PartitionAppend{Partition: p.GetPartition(), BaseSequence: p.GetBaseSequence()}
		body, isBatch := p.GetPayload().(*oncelogv1.PartitionAppend_Batch)
		if !isBatch {
			shell.Payload = p.GetPayload()
		}
		if parts[i].rest, ok = encoded(shell, p != nil && known(p)); !ok {
			return false
		}
		if parts[i].size = len(parts[i].rest); isBatch {
			parts[i].size += FieldSize(batchField, len(body.Batch))
		}
		size += FieldSize(partitionsField, parts[i].size)
	}
	b.Head(requestsField, size)
	b.append(rest)
	for i, p := range r.GetPartitions() {
		b.Head(partitionsField, parts[i].size)
		b.append(parts[i].rest)
		if body, isBatch := p.GetPayload().(*oncelogv1.PartitionAppend_Batch); isBatch {
			b.Payload(batchField, body.Batch)
		}
	}
	return true
}

func (b *Builder) append(encoded []byte) {
	b.buf = append(b.buf, encoded...)
	b.size += len(encoded)
}

// marshalFetched encodes what a reader is sent; ok is false if package proto is to
// do it.
func marshalFetched(m *oncelogv1.FetchResponse) (_ mem.BufferSlice, ok bool) {
	large := false
	for _, f := range m.GetBatches() {
		large = large || len(f.GetBatch()) >= attachFrom
	}
	if !large {
		return nil, false
	}
	rest, ok := encoded(&oncelogv1.FetchResponse{
		NextOffset: m.GetNextOffset(), StableEnd: m.GetStableEnd(), AppliedEnd: m.GetAppliedEnd(),
		StartOffset: m.GetStartOffset(), Records: m.GetRecords(),
	}, known(m))
	if !ok {
		return nil, false
	}
	var b Builder
	b.append(rest)
	for _, f := range m.GetBatches() {
		rest, ok := encoded(&oncelogv1.FetchedBatch{
			BaseOffset: f.GetBaseOffset(), VisibleRecords: f.GetVisibleRecords(), Txn: f.GetTxn(),
		}, f != nil && known(f))
		if !ok {
			return nil, false
		}
		size := len(rest)
		if len(f.GetBatch()) > 0 {
			size += FieldSize(fetchedField, len(f.GetBatch()))
		}
		b.Head(batchesField, size)
		b.append(rest)
		if len(f.GetBatch()) > 0 {
			b.Payload(fetchedField, f.GetBatch())
		}
	}
	return b.Message(), true
}
