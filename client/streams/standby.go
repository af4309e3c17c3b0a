package streams

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
	"github.com/oncelog/oncelog/client/streams/state"
)

// standbyInterval is the time between two rounds, and so about how far a copy is
// behind.
const standbyInterval = time.Second

// standby keeps copies of stores whose tasks run elsewhere. In rounds it looks who
// runs what, and reads what is new in the changelogs of its share. Nobody shares
// the copies out: the instances of the group, by name, are a circle, and those
// behind the one that runs a task keep its copies. That members of different rounds
// disagree for a while costs a copy too many or too few, and nothing else.
type standby struct {
	a *App

	mu     sync.Mutex
	held   map[state.ID]*restoring
	wanted map[state.ID]bool  // of held: by a task of this instance
	hurry  context.CancelFunc // ends the round; nil: none runs
}

func newStandby(a *App) *standby {
	return &standby{a: a, held: map[state.ID]*restoring{}, wanted: map[state.ID]bool{}}
}

// giveUp has a state closed, soon, because a task needs it.
func (s *standby) giveUp(id state.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[id] == nil {
		return
	}
	s.wanted[id] = true
	if s.hurry != nil {
		s.hurry()
		return
	}
	s.release(id) // nobody uses it between rounds
}

// release closes a state. The mutex is held.
func (s *standby) release(id state.ID) {
	if r := s.held[id]; r != nil {
		_ = r.state.Close()
		delete(s.held, id)
	}
	delete(s.wanted, id)
}

// run works until ctx ends.
func (s *standby) run(ctx context.Context) {
	for s.a.rt.Sleep(standbyInterval, ctx.Done()) {
		if err := s.round(ctx); err != nil && ctx.Err() == nil {
			s.a.cfg.logger.Debug("standby copies", "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.held { // each by itself: the order does not matter
		s.release(id)
	}
}

// round brings the copies up to date.
func (s *standby) round(ctx context.Context) error {
	group, err := s.a.c.Admin().DescribeGroup(ctx, s.a.plan.Application)
	if err != nil {
		return err
	}
	share, goals := s.a.standbyShare(group)
	ctx, cancel := s.a.rt.WithCancel(ctx)
	defer cancel()
	logs, tables, err := s.begin(share, cancel)
	if err == nil {
		err = s.a.bringUp(ctx, logs, nil)
	}
	if err == nil {
		tables = slices.DeleteFunc(tables, func(r *restoring) bool { _, known := goals[r.tp]; return !known })
		err = s.a.bringUp(ctx, tables, goals)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hurry = nil
	for id := range maps.Clone(s.wanted) { // each by itself: the order does not matter
		s.release(id)
	}
	return err
}

// begin opens what is in the share, closes what no longer is, and returns what the
// round is about.
func (s *standby) begin(share map[state.ID]*restoring, hurry context.CancelFunc) (logs, tables []*restoring, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range maps.Clone(s.held) { // each by itself: the order does not matter
		if share[id] == nil {
			s.release(id)
		}
	}
	ids := slices.SortedFunc(maps.Keys(share), func(x, y state.ID) int {
		return cmp.Or(cmp.Compare(x.Store, y.Store), cmp.Compare(x.Partition, y.Partition))
	})
	for _, id := range ids {
		if s.held[id] == nil {
			opened, err := s.a.cfg.backend.Open(id)
			if errors.Is(err, state.ErrInUse) {
				continue // a task has it, or lets go of it
			}
			if err != nil {
				return nil, nil, err
			}
			share[id].state = opened
			s.held[id] = share[id]
		}
		if r := s.held[id]; r.spec.OfSource {
			tables = append(tables, r)
		} else {
			logs = append(logs, r)
		}
	}
	s.hurry = hurry
	return logs, tables, nil
}

// standbyShare returns the states that this instance is to keep copies of, and how
// far tables have been consumed: a copy must not be ahead.
func (a *App) standbyShare(g *oncelogv1.DescribeGroupResponse) (map[state.ID]*restoring, client.Offsets) {
	var instances []string
	for _, m := range g.GetMembers() {
		name, _, _ := strings.Cut(m.GetMemberId(), "/")
		instances = append(instances, name)
	}
	slices.Sort(instances)
	instances = slices.Compact(instances)
	owners, goals := map[client.TopicPartition]string{}, client.Offsets{}
	for _, p := range g.GetPartitions() {
		ref := p.GetCommitted().GetPartition()
		tp := client.TopicPartition{Topic: ref.GetTopic(), Partition: int32(ref.GetPartition())}
		owners[tp], _, _ = strings.Cut(p.GetMemberId(), "/")
		if p.GetCommitted().Offset != nil {
			goals[tp] = int64(p.GetCommitted().GetOffset())
		}
	}
	share := map[state.ID]*restoring{}
	for _, group := range a.plan.Groups {
		source := group.Sources[0].Topic
		for p := range int32(a.topic(source).partitions) {
			owner := owners[client.TopicPartition{Topic: source, Partition: p}]
			if !behind(instances, owner, a.instance, a.cfg.standbys) {
				continue
			}
			for _, spec := range group.Stores {
				a.addCopy(share, spec, p)
			}
		}
	}
	return share, goals
}

func (a *App) addCopy(share map[state.ID]*restoring, spec *engine.StoreSpec, p int32) {
	share[a.stateID(spec.Name, p)] = &restoring{
		spec: spec, topic: a.topic(spec.Topic).id, tp: client.TopicPartition{Topic: spec.Topic, Partition: p},
	}
}

// behind reports whether an instance is one of the n behind the owner in the circle.
func behind(circle []string, owner, instance string, n int) bool {
	at, ok := slices.BinarySearch(circle, owner)
	if !ok || owner == instance {
		return false
	}
	for i := range min(n, len(circle)-1) {
		if circle[(at+1+i)%len(circle)] == instance {
			return true
		}
	}
	return false
}
