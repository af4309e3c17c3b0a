package sink

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/oncelog/oncelog/client"
)

// assignment is what the group says, told by callbacks while the sink works.
type assignment struct {
	mu        sync.Mutex
	number    uint64             // of assignments so far
	interrupt context.CancelFunc // ends the Poll that waits
	byHand    bool               // the partitions are assigned manually: no group tells who lost them
}

// assigned keeps a partition's records back until it is claimed: its position is the
// store's. It is called before Poll returns any.
func (s *runner) assigned(in *client.Consumer, partitions []client.TopicPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in.Pause(partitions...)
	s.number++
	for _, tp := range partitions {
		s.forget(tp)
		delete(s.struck, tp)
		s.fresh[tp] = s.number
	}
	if s.interrupt != nil {
		s.interrupt()
	}
}

// revoked lets a partition go when the store is not busy with it any more, so that
// its next owner finds the position after what was taken.
func (s *runner) revoked(in *client.Consumer, partitions []client.TopicPartition) {
	s.lost(in, partitions)
	s.awaitCall()
}

// lost forgets partitions. A call of the store that is under way is refused there if
// the next owner was faster.
func (s *runner) lost(_ *client.Consumer, partitions []client.TopicPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tp := range partitions {
		s.forget(tp)
	}
}

// forget makes a partition nobody's. The mutex is held.
func (s *runner) forget(tp client.TopicPartition) {
	delete(s.owned, tp)
	delete(s.fresh, tp)
	delete(s.fenced, tp)
}

// adoptManual takes note of partitions that the consumer was told to read: no callback
// tells of those.
func (s *runner) adoptManual(in *client.Consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.number > 0 {
		return
	}
	for _, tp := range in.Partitions() {
		in.Pause(tp)
		s.fresh[tp] = 0
		s.byHand = true
	}
}

// interruptible lets an assignment end the poll that begins; false: there is one.
func (s *runner) interruptible(cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupt = cancel
	return len(s.fresh) == 0
}

func (s *runner) uninterruptible() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupt = nil
}

// waiting returns what is to be claimed, sorted, with the numbers of the assignments.
func (s *runner) waiting(in *client.Consumer) ([]Partition, map[client.TopicPartition]uint64) {
	ids := in.PartitionIDs()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Partition
	for _, tp := range slices.SortedFunc(maps.Keys(s.fresh), byName) {
		if id, reading := ids[tp]; reading { // else the group is about to say that it is lost
			out = append(out, Partition{TopicPartition: tp, ID: id})
		}
	}
	return out, maps.Clone(s.fresh)
}

func byName(a, b client.TopicPartition) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return int(a.Partition - b.Partition)
}

// begin has claimed partitions read from the store's positions on, unless they were
// assigned anew meanwhile.
func (s *runner) begin(in *client.Consumer, claimed []*position, numbers map[client.TopicPartition]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range claimed {
		tp := p.part.TopicPartition
		if n, still := s.fresh[tp]; !still || n != numbers[tp] {
			continue
		}
		delete(s.fresh, tp)
		s.owned[tp] = p
		in.Seek(client.Offsets{tp: p.next})
		in.Resume(tp)
	}
}

// fence stops partitions that the store has refused, unless mine says that the group
// has taken them away already. If not, it should say so soon.
func (s *runner) fence(in *client.Consumer, partitions []client.TopicPartition, mine func(client.TopicPartition) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tp := range partitions {
		if !mine(tp) {
			continue
		}
		s.forget(tp)
		in.Pause(tp)
		s.fenced[tp] = s.rt.Now().Add(fencedPatience)
	}
}

// overdue looks after partitions that the group goes on to leave to this sink although
// somebody else has claimed them. That may have been a claim which was late, of a member
// that had lost them already: so they are claimed again. If that happens a second time
// there are two owners who both have a right to them, and this one ends.
func (s *runner) overdue() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.rt.Now()
	var all []client.TopicPartition
	for _, tp := range slices.SortedFunc(maps.Keys(s.fenced), byName) {
		struck, again := s.struck[tp]
		switch {
		case s.byHand || again && now.Sub(struck) < strikes:
			all = append(all, tp)
		case !now.Before(s.fenced[tp]):
			s.struck[tp] = now
			s.forget(tp)
			s.number++
			s.fresh[tp] = s.number
		}
	}
	if len(all) > 0 {
		return &FencedError{Partitions: all}
	}
	return nil
}
