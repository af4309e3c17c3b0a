package client

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// assignManually takes the partitions that the options name.
func (k *Consumer) assignManually(ctx context.Context, topics []string) error {
	if err := k.find(ctx, topics); err != nil {
		return err
	}
	if k.group != "" {
		if err := k.join(ctx); err != nil {
			return err
		}
	}
	if _, err := k.place(ctx, k.readers); err != nil {
		return err
	}
	for _, r := range k.readers {
		k.tasks.Go(k.c.rt, r.run)
	}
	return nil
}

// find finds the partitions to read.
func (k *Consumer) find(ctx context.Context, topics []string) error {
	names := slices.Clone(topics)
	for name := range k.cfg.partitions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		t, err := k.c.meta.topic(ctx, name)
		if err != nil {
			return err
		}
		chosen, some := k.cfg.partitions[name]
		if !some {
			for p := range t.partitions {
				chosen = append(chosen, int32(p))
			}
		}
		for _, p := range chosen {
			tp := TopicPartition{Topic: name, Partition: p}
			if p < 0 || int(p) >= len(t.partitions) {
				return noPartition("consume", tp, len(t.partitions))
			}
			if k.byKey[tp] != nil {
				continue
			}
			k.add(newReader(k, tp, t))
		}
	}
	if n := len(k.readers); n == 0 || n > maxAssigned {
		return invalid("consume", "%d partitions: 1 to %d", n, maxAssigned)
	}
	return nil
}

// place finds where readers begin that nobody else knows yet: at committed
// positions, else where the option says. Both are fixed when it returns, so that
// nothing that is written later is missed. It returns those without a committed
// position.
func (k *Consumer) place(ctx context.Context, readers []*reader) (fresh []*reader, err error) {
	for _, r := range readers {
		if r.committed == nil {
			fresh = append(fresh, r)
		} else {
			r.known = int64(*r.committed)
			r.origin = r.known
			r.moveTo(r.known)
		}
	}
	switch {
	case len(fresh) == 0:
		return nil, nil
	case k.cfg.start == StartNone && k.group != "":
		tp := fresh[0].tp
		return nil, &Error{Op: "consume", Code: codeNoOffset, Class: ClassFatal, Topic: tp.Topic, Partition: tp.Partition, Err: ErrNoOffset}
	}
	position := oncelogv1.StartPosition_START_POSITION_EARLIEST
	if k.cfg.start == StartLatest {
		position = oncelogv1.StartPosition_START_POSITION_LATEST
	}
	offsets, err := k.c.listOffsets(ctx, partitionsOf(fresh), offsetTarget{position: position}, k.isolation())
	if err != nil {
		return nil, err
	}
	for _, r := range fresh {
		r.origin = offsets[r.tp]
		r.moveTo(r.origin)
	}
	return fresh, nil
}

// join makes this member the owner of its partitions.
func (k *Consumer) join(ctx context.Context) error {
	req := &oncelogv1.AssignPartitionsRequest{GroupId: k.group, MemberId: k.member, ClientId: k.c.cfg.clientID}
	for _, r := range k.readers {
		req.Partitions = append(req.Partitions, r.ref)
	}
	var resp *oncelogv1.AssignPartitionsResponse
	_, err := k.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) (err error) {
		resp, err = oncelogv1.NewGroupServiceClient(cc).AssignPartitions(ctx, req)
		return err
	})
	if err != nil {
		return err
	}
	if len(resp.GetOffsets()) != len(k.readers) {
		return fmt.Errorf("the cluster answered %d positions for %d partitions", len(resp.GetOffsets()), len(k.readers))
	}
	k.generation = resp.GetGeneration()
	for i, o := range resp.GetOffsets() {
		k.readers[i].committed = o.Offset
	}
	return nil
}
