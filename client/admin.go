package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Admin looks after a cluster: topics, transactions, groups and nodes. Its calls
// go to whoever can answer them and are repeated until ctx ends. Answers are the
// messages of the contract, package api/oncelog/v1.
//
// Calls that change something look first whom they will change, and then name
// that one: repetitions after a lost answer, and late copies, hit neither a topic
// that somebody has created again meanwhile nor a producer that has just taken over.
// A call that you repeat yourself looks again.
type Admin struct{ c *Client }

// Admin returns the administrative calls of the client.
func (c *Client) Admin() *Admin { return &Admin{c: c} }

// noLimit leaves an attempt to the caller's context: the answer is held back until
// something has happened.
const noLimit time.Duration = -1

// adminCall makes a call to the coordinator.
func adminCall[Req, Resp any](ctx context.Context, a *Admin, op string, k call, req Req,
	method func(ctx context.Context, cc grpc.ClientConnInterface, req Req) (Resp, error)) (Resp, error) {
	var resp Resp
	_, err := a.c.invoke(ctx, k, func(ctx context.Context, cc grpc.ClientConnInterface) (err error) {
		resp, err = method(ctx, cc, req)
		return err
	})
	if err != nil {
		var none Resp
		return none, wrap(op, err)
	}
	return resp, nil
}

// ListTopics returns one page of topics; pageToken is "" for the first and the
// answer's NextPageToken for the next.
func (a *Admin) ListTopics(ctx context.Context, pageSize uint32, pageToken string) (*oncelogv1.ListTopicsResponse, error) {
	req := &oncelogv1.ListTopicsRequest{PageSize: pageSize, PageToken: pageToken}
	return adminCall(ctx, a, "list topics", call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.ListTopicsRequest) (*oncelogv1.ListTopicsResponse, error) {
			return oncelogv1.NewCatalogServiceClient(cc).ListTopics(ctx, req)
		})
}

// DescribeTopic returns a topic with its partitions.
func (a *Admin) DescribeTopic(ctx context.Context, name string) (*oncelogv1.Topic, error) {
	m, err := a.Metadata(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, t := range m.GetTopics() {
		if t.GetName() == name {
			return t, nil
		}
	}
	return nil, wrap("describe topic", apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC, "", apierrors.KeyTopic, name))
}

// Metadata returns where the partitions of topics are, as some coordinator node
// knows it.
func (a *Admin) Metadata(ctx context.Context, topics ...string) (*oncelogv1.GetMetadataResponse, error) {
	req := &oncelogv1.GetMetadataRequest{Topics: topics}
	return adminCall(ctx, a, "metadata", call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.GetMetadataRequest) (*oncelogv1.GetMetadataResponse, error) {
			return oncelogv1.NewCatalogServiceClient(cc).GetMetadata(ctx, req)
		})
}

// DescribeCluster returns nodes, shards and leaders, as the coordinator leader
// knows them.
func (a *Admin) DescribeCluster(ctx context.Context) (*oncelogv1.DescribeClusterResponse, error) {
	return adminCall(ctx, a, "describe cluster", call{}, &oncelogv1.DescribeClusterRequest{},
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.DescribeClusterRequest) (*oncelogv1.DescribeClusterResponse, error) {
			return oncelogv1.NewCatalogServiceClient(cc).DescribeCluster(ctx, req)
		})
}

// NodeStatus asks the node at a client address about itself, once: a node that is
// down is an answer, too.
func (a *Admin) NodeStatus(ctx context.Context, address string) (*oncelogv1.GetStatusResponse, error) {
	cc, err := a.c.conns.get(address)
	if err != nil {
		return nil, wrap("node status", err)
	}
	ctx, cancel := a.c.rt.WithTimeout(ctx, a.c.cfg.requestTimeout)
	defer cancel()
	resp, err := oncelogv1.NewStatusServiceClient(cc).GetStatus(ctx, &oncelogv1.GetStatusRequest{})
	if err != nil {
		return nil, wrap("node status", err)
	}
	return resp, nil
}

// ListTransactions returns one page of transactional ids.
func (a *Admin) ListTransactions(ctx context.Context, req *oncelogv1.ListTransactionsRequest) (*oncelogv1.ListTransactionsResponse, error) {
	return adminCall(ctx, a, "list transactions", call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.ListTransactionsRequest) (*oncelogv1.ListTransactionsResponse, error) {
			return oncelogv1.NewTransactionServiceClient(cc).ListTransactions(ctx, req)
		})
}

// DescribeTransaction returns all that is kept about a transactional id.
func (a *Admin) DescribeTransaction(ctx context.Context, transactionalID string) (*oncelogv1.DescribeTransactionResponse, error) {
	req := &oncelogv1.DescribeTransactionRequest{TransactionalId: transactionalID}
	return adminCall(ctx, a, "describe transaction", call{}, req, describeTransaction)
}

// DescribeProducer is DescribeTransaction by the producer id.
func (a *Admin) DescribeProducer(ctx context.Context, producerID uint64) (*oncelogv1.DescribeTransactionResponse, error) {
	req := &oncelogv1.DescribeTransactionRequest{ProducerId: producerID}
	return adminCall(ctx, a, "describe producer", call{}, req, describeTransaction)
}

func describeTransaction(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.DescribeTransactionRequest) (*oncelogv1.DescribeTransactionResponse, error) {
	return oncelogv1.NewTransactionServiceClient(cc).DescribeTransaction(ctx, req)
}

// AbortTransaction aborts a transaction of a transactional id: Txn, or if that is
// not set the one that is open or prepared when it is called. Repetitions never hit a
// later one. Without such a transaction the answer names none. A prepared one is
// aborted only with Force: the other system may have committed its part.
//
// Errors: PREPARED_EXISTS without Force; those of the contract.
func (a *Admin) AbortTransaction(ctx context.Context, req *oncelogv1.AbortTransactionRequest) (*oncelogv1.AbortTransactionResponse, error) {
	if req.GetTxn() == nil {
		d, err := adminCall(ctx, a, "abort transaction", call{},
			&oncelogv1.DescribeTransactionRequest{TransactionalId: req.GetTransactionalId()}, describeTransaction)
		switch {
		case apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER:
			// The call itself says so, unless the id has just come to be.
		case err != nil:
			return nil, err
		case d.GetOpen() == nil && d.GetPrepared() == nil:
			return &oncelogv1.AbortTransactionResponse{}, nil
		default:
			named := proto.CloneOf(req)
			if named.Txn = d.GetPrepared().GetTxn(); named.Txn == nil {
				named.Txn = d.GetOpen().GetTxn()
			}
			req = named
		}
	}
	return adminCall(ctx, a, "abort transaction", call{attempt: noLimit}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.AbortTransactionRequest) (*oncelogv1.AbortTransactionResponse, error) {
			return oncelogv1.NewTransactionServiceClient(cc).AbortTransaction(ctx, req)
		})
}

// CompletePrepared carries out another system's word about a prepared transaction. It
// may be called by whoever knows the word, also while the producer lives, and repeated:
// the same word gets the same answer. The answer comes when the decision is durable, or
// with WaitApplied when every shard has applied it.
//
// Errors: CONFLICT (decided the other way), FENCED, FORGOTTEN, INVALID_TXN (it is not
// prepared), UNKNOWN_PRODUCER.
func (a *Admin) CompletePrepared(ctx context.Context, req *oncelogv1.CompletePreparedRequest) (*oncelogv1.CompletePreparedResponse, error) {
	k := call{}
	if req.GetWaitApplied() {
		k.attempt = noLimit
	}
	return adminCall(ctx, a, "complete prepared", k, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.CompletePreparedRequest) (*oncelogv1.CompletePreparedResponse, error) {
			return oncelogv1.NewTransactionServiceClient(cc).CompletePrepared(ctx, req)
		})
}

// FenceProducer finishes the current producer of a transactional id and aborts
// its open transaction. Who is current is asked first, so that repeating the
// request fences nobody who comes after.
func (a *Admin) FenceProducer(ctx context.Context, transactionalID string) (*oncelogv1.FenceProducerResponse, error) {
	now, err := a.DescribeTransaction(ctx, transactionalID)
	if err != nil {
		return nil, wrap("fence producer", err)
	}
	return a.FenceEpoch(ctx, transactionalID, now.GetEpoch())
}

// FenceEpoch is FenceProducer for whoever works under an epoch of the id, and for nobody
// who has come after: then nothing is done, and the epoch of the answer is the newer one.
func (a *Admin) FenceEpoch(ctx context.Context, transactionalID string, epoch uint32) (*oncelogv1.FenceProducerResponse, error) {
	req := &oncelogv1.FenceProducerRequest{TransactionalId: transactionalID, Epoch: &epoch}
	return adminCall(ctx, a, "fence producer", call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.FenceProducerRequest) (*oncelogv1.FenceProducerResponse, error) {
			return oncelogv1.NewTransactionServiceClient(cc).FenceProducer(ctx, req)
		})
}

// DeleteTransactionalID makes the cluster forget a transactional id, aborting
// what is open first.
func (a *Admin) DeleteTransactionalID(ctx context.Context, transactionalID string) error {
	req := &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: transactionalID}
	_, err := adminCall(ctx, a, "delete transactional id", call{attempt: noLimit}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.DeleteTransactionalIdRequest) (*oncelogv1.DeleteTransactionalIdResponse, error) {
			return oncelogv1.NewTransactionServiceClient(cc).DeleteTransactionalId(ctx, req)
		})
	return err
}

// ListGroups returns one page of consumer groups.
func (a *Admin) ListGroups(ctx context.Context, pageSize uint32, pageToken string) (*oncelogv1.ListGroupsResponse, error) {
	req := &oncelogv1.ListGroupsRequest{PageSize: pageSize, PageToken: pageToken}
	return adminCall(ctx, a, "list groups", call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.ListGroupsRequest) (*oncelogv1.ListGroupsResponse, error) {
			return oncelogv1.NewGroupServiceClient(cc).ListGroups(ctx, req)
		})
}

// DescribeGroup returns members, ownership and positions of a group.
func (a *Admin) DescribeGroup(ctx context.Context, group string) (*oncelogv1.DescribeGroupResponse, error) {
	req := &oncelogv1.DescribeGroupRequest{GroupId: group}
	return adminCall(ctx, a, "describe group", call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.DescribeGroupRequest) (*oncelogv1.DescribeGroupResponse, error) {
			return oncelogv1.NewGroupServiceClient(cc).DescribeGroup(ctx, req)
		})
}

// DeleteGroup forgets a group without members, and its positions.
func (a *Admin) DeleteGroup(ctx context.Context, group string) error {
	req := &oncelogv1.DeleteGroupRequest{GroupId: group}
	_, err := adminCall(ctx, a, "delete group", call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.DeleteGroupRequest) (*oncelogv1.DeleteGroupResponse, error) {
			return oncelogv1.NewGroupServiceClient(cc).DeleteGroup(ctx, req)
		})
	return err
}

// GroupOffsets returns the committed positions of a group.
func (a *Admin) GroupOffsets(ctx context.Context, group string) (Offsets, error) {
	req := &oncelogv1.FetchOffsetsRequest{GroupId: group}
	resp, err := adminCall(ctx, a, "group offsets", call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.FetchOffsetsRequest) (*oncelogv1.FetchOffsetsResponse, error) {
			return oncelogv1.NewGroupServiceClient(cc).FetchOffsets(ctx, req)
		})
	if err != nil {
		return nil, err
	}
	out := make(Offsets, len(resp.GetOffsets()))
	for _, o := range resp.GetOffsets() {
		if o.Offset != nil {
			out[TopicPartition{Topic: o.GetPartition().GetTopic(), Partition: int32(o.GetPartition().GetPartition())}] = int64(o.GetOffset())
		}
	}
	return out, nil
}

// ResetGroupOffsets sets committed positions of a group, in partitions that none
// of its members owns. Errors: ErrStaleMember where one does: stop it first.
func (a *Admin) ResetGroupOffsets(ctx context.Context, group string, to Offsets) error {
	const op = "reset group offsets"
	g := &oncelogv1.GroupOffsets{GroupId: group}
	for _, tp := range slices.SortedFunc(maps.Keys(to), TopicPartition.compare) {
		offset := to[tp]
		t, err := a.c.meta.topic(ctx, tp.Topic)
		if err != nil {
			return wrap(op, err)
		}
		switch {
		case tp.Partition < 0 || int(tp.Partition) >= len(t.partitions):
			return noPartition(op, tp, len(t.partitions))
		case offset < 0:
			return invalid(op, "offset %d of %v: 0 or more", offset, tp)
		}
		g.Offsets = append(g.Offsets, &oncelogv1.OffsetCommit{Partition: t.ref(tp.Partition), Offset: uint64(offset)})
	}
	_, err := adminCall(ctx, a, op, call{}, &oncelogv1.CommitOffsetsRequest{Offsets: g},
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.CommitOffsetsRequest) (*oncelogv1.CommitOffsetsResponse, error) {
			return oncelogv1.NewGroupServiceClient(cc).CommitOffsets(ctx, req)
		})
	return err
}

// DescribePartitions returns ends, stable ends and what holds them back, of all
// partitions of a topic, in their order.
func (a *Admin) DescribePartitions(ctx context.Context, topic string) ([]*oncelogv1.PartitionStatus, error) {
	const op = "describe partitions"
	t, err := a.c.meta.topic(ctx, topic)
	if err != nil {
		return nil, wrap(op, err)
	}
	out := make([]*oncelogv1.PartitionStatus, len(t.partitions))
	for i := range t.partitions {
		err := a.c.askShard(ctx, topic, t.partitions[i].shard, func(ctx context.Context, s oncelogv1.LogServiceClient) error {
			resp, err := s.DescribePartitions(ctx, &oncelogv1.DescribePartitionsRequest{
				Partitions: []*oncelogv1.PartitionRef{t.ref(int32(i))},
			})
			if err == nil && len(resp.GetPartitions()) != 1 {
				return errors.New("the node did not describe the partition")
			}
			if err == nil {
				out[i] = resp.GetPartitions()[0]
			}
			return err
		})
		if err != nil {
			e := wrap(op, err)
			e.Topic, e.Partition = topic, int32(i)
			return nil, e
		}
	}
	return out, nil
}

// DescribeProducers returns the producers that a partition remembers.
func (a *Admin) DescribeProducers(ctx context.Context, tp TopicPartition) ([]*oncelogv1.ProducerState, error) {
	const op = "describe producers"
	t, err := a.c.meta.topic(ctx, tp.Topic)
	if err != nil {
		return nil, wrap(op, err)
	}
	if tp.Partition < 0 || int(tp.Partition) >= len(t.partitions) {
		return nil, noPartition(op, tp, len(t.partitions))
	}
	var resp *oncelogv1.DescribeProducersResponse
	err = a.c.askShard(ctx, tp.Topic, t.partitions[tp.Partition].shard, func(ctx context.Context, s oncelogv1.LogServiceClient) (err error) {
		resp, err = s.DescribeProducers(ctx, &oncelogv1.DescribeProducersRequest{Partition: t.ref(tp.Partition)})
		return err
	})
	if err != nil {
		e := wrap(op, err)
		e.Topic, e.Partition = tp.Topic, tp.Partition
		return nil, e
	}
	return resp.GetProducers(), nil
}
