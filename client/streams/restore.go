package streams

import (
	"context"
	"errors"
	"fmt"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
	"github.com/oncelog/oncelog/client/streams/state"
)

// restoring is a state that is brought up to date.
type restoring struct {
	spec   *engine.StoreSpec
	state  state.State
	tp     client.TopicPartition
	topic  uint64
	vetted bool // it is a copy of its topic
}

// restoreTask opens the states of a task and brings them up to date: those with a
// changelog to its end, and tables to where their topic has been consumed.
//
// The end is read after the partitions were assigned. Whatever an earlier owner
// committed was decided before that, and a decision comes after the records; so they
// are below the end of what is durable, if perhaps not yet below that of what is
// stable: the restore waits for the stable end to pass it. What an earlier owner
// sends later it can no longer commit.
func (a *App) restoreTask(ctx context.Context, id engine.ID, position client.Offsets) (states []state.State, err error) {
	defer func() {
		if err != nil {
			closeAll(states)
			states = nil
		}
	}()
	var logs, tables []*restoring
	goals := client.Offsets{}
	for _, spec := range a.plan.Groups[id.Group].Stores {
		s, err := a.open(ctx, a.stateID(spec.Name, id.Partition))
		if err != nil {
			return states, err
		}
		states = append(states, s)
		r := &restoring{
			spec: spec, state: s, topic: a.topic(spec.Topic).id,
			tp: client.TopicPartition{Topic: spec.Topic, Partition: id.Partition},
		}
		if spec.OfSource {
			tables = append(tables, r)
			goals[r.tp] = position[r.tp]
		} else {
			logs = append(logs, r)
		}
	}
	if err := a.bringUp(ctx, logs, nil); err != nil {
		return states, err
	}
	return states, a.bringUp(ctx, tables, goals)
}

// open opens a state, and waits while another task of this instance, or the standby
// copy, is about to close it.
func (a *App) open(ctx context.Context, id state.ID) (state.State, error) {
	for {
		if a.standby != nil {
			a.standby.giveUp(id)
		}
		s, err := a.cfg.backend.Open(id)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, state.ErrInUse) || !a.rt.Sleep(openAgain, ctx.Done()) {
			return nil, fmt.Errorf("state of store %s, partition %d: %w", id.Store, id.Partition, errors.Join(err, ctx.Err()))
		}
	}
}

// bringUp reads what is missing in states from their topics: up to goals, or
// without those to the end of what is durable now. A state that is no copy of its
// topic, or of which the topic has lost what comes next, begins anew.
func (a *App) bringUp(ctx context.Context, list []*restoring, goals client.Offsets) error {
	if len(list) == 0 {
		return nil
	}
	for attempt := 0; ; attempt++ {
		known := map[client.TopicPartition]*oncelogv1.PartitionStatus{}
		for _, r := range list {
			if err := a.vet(ctx, r, goals, known); err != nil {
				return err
			}
		}
		err := a.read(ctx, list, goals)
		var e *client.Error
		if attempt == 0 && errors.As(err, &e) && e.Code == "OFFSET_OUT_OF_RANGE" {
			for _, r := range list {
				if r.tp == (client.TopicPartition{Topic: e.Topic, Partition: e.Partition}) {
					a.cfg.logger.Warn("what a store lacks is no longer kept; it begins anew", "store", r.spec.Name, "partition", r.tp.Partition)
					if err := r.state.Apply(state.Changes{Clear: true}); err != nil {
						return err
					}
				}
			}
			continue
		}
		return err
	}
}

// vet makes a state empty that cannot be what it says: it is of another topic, or
// ahead of its own, or was away for so long that tombstones of what comes next are
// gone. known are the partitions that were asked for before.
func (a *App) vet(ctx context.Context, r *restoring, goals client.Offsets, known map[client.TopicPartition]*oncelogv1.PartitionStatus) error {
	at := r.state.Checkpoint()
	end, ok := goals[r.tp]
	if at == (state.Checkpoint{}) || !ok && r.vetted {
		r.vetted = true
		return nil
	}
	deleted := int64(0)
	if at.Topic == r.topic {
		if known[r.tp] == nil {
			partitions, err := a.c.Admin().DescribePartitions(ctx, r.tp.Topic)
			if err != nil {
				return err
			}
			for p, status := range partitions {
				known[client.TopicPartition{Topic: r.tp.Topic, Partition: int32(p)}] = status
			}
		}
		deleted = int64(known[r.tp].GetDeletedOffset())
		if !ok {
			end = int64(known[r.tp].GetAppliedEnd())
		}
	}
	r.vetted = true
	if at.Topic == r.topic && at.Next <= end && at.Next >= deleted {
		return nil
	}
	a.cfg.logger.Warn("a store is not a copy of its topic; it begins anew", "store", r.spec.Name,
		"partition", r.tp.Partition, "offset", at.Next, "end", end)
	return r.state.Apply(state.Changes{Clear: true})
}

// read does the reading of bringUp.
func (a *App) read(ctx context.Context, list []*restoring, goals client.Offsets) error {
	byPartition, assignment, seek := map[client.TopicPartition]*restoring{}, map[string][]int32{}, client.Offsets{}
	for _, r := range list {
		byPartition[r.tp] = r
		assignment[r.tp.Topic] = append(assignment[r.tp.Topic], r.tp.Partition)
		if at := r.state.Checkpoint(); at.Next > 0 {
			seek[r.tp] = at.Next
		}
	}
	in, err := a.c.Consume(ctx, "", nil, client.WithAssignment(assignment), client.WithoutReset())
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	in.Seek(seek)
	apply := func(b *client.Batch) error { return a.applyBatch(byPartition, b, goals) }
	if goals != nil {
		err = in.ReadTo(ctx, goals, apply)
	} else {
		err = in.ReadToEnd(ctx, apply)
	}
	if err != nil {
		return err
	}
	for tp, next := range in.Position() {
		if goal, ok := goals[tp]; ok {
			next = goal
		}
		r := byPartition[tp]
		if err := engine.Restore(r.spec, r.state, r.topic, max(next, r.state.Checkpoint().Next), nil); err != nil {
			return err
		}
	}
	return nil
}

// applyBatch puts what was read into states. goals: nothing from there on.
func (a *App) applyBatch(byPartition map[client.TopicPartition]*restoring, b *client.Batch, goals client.Offsets) error {
	records := map[client.TopicPartition][]*client.Record{}
	for r := range b.Records() {
		tp := client.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		if goal, ok := goals[tp]; !ok || r.Offset < goal {
			records[tp] = append(records[tp], r)
			a.stats.restored.Add(1)
		}
	}
	for tp, next := range b.Offsets() {
		if goal, ok := goals[tp]; ok {
			next = min(next, goal)
		}
		r := byPartition[tp]
		if err := engine.Restore(r.spec, r.state, r.topic, next, records[tp]); err != nil {
			return err
		}
	}
	return nil
}
