package partition

import (
	"errors"
	"fmt"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// release deletes the copies that the coordinator says nobody needs, and returns the
// assignment without them. It says so of a copy that was reported, by name and life,
// once the shard's leader has told it that a majority of the members know, durably,
// that this one is none: neither its vote nor its log can be asked for again.
//
// What is to be deleted is first taken out of the assignment on disk. If the node
// stops after that, it finds a stray copy and asks again; if it stopped the other way
// around, it would miss the log of a shard that it is to have.
func (n *Node) release(a, resp *oncelogv1.HeartbeatResponse) (*oncelogv1.HeartbeatResponse, error) {
	if resp.GetVersion() < a.GetVersion() {
		return a, nil // from a coordinator that knows less than this node
	}
	hosted := map[uint64]bool{}
	for _, r := range resp.GetReleased() {
		id := r.GetShardId()
		if s := n.shard(id); s != nil && s.life == r.GetLife() {
			hosted[id] = true
			continue
		}
		if err := n.deleteStray(id, r.GetLife()); err != nil {
			return a, err
		}
	}
	if len(hosted) == 0 {
		return a, nil
	}
	rest := without(a, hosted)
	if err := saveAssignment(n.cfg.Files, rest); err != nil {
		n.log.Error("cannot keep the assignment on disk; copies that are not needed stay", "error", err)
		return a, nil
	}
	n.mu.Lock()
	n.assignment = rest
	n.mu.Unlock()
	n.routing.set(rest)
	for id := range hosted {
		if err := n.drop(id); err != nil {
			return rest, err
		}
	}
	return rest, nil
}

// drop ends a shard here and deletes its data.
func (n *Node) drop(id uint64) error {
	n.mu.Lock()
	s, store := n.shards[id], n.store
	delete(n.shards, id)
	n.mu.Unlock()
	close(s.gone)
	s.waiters.wakeAll()
	idle := s.reads.shut()
	if n.run.Wait(idle, n.ctx.Done()) != 0 {
		return n.ctx.Err() // the copy is a stray when the node is back
	}
	if err := store.RemoveGroup(raftstore.GroupID(id)); err != nil {
		return fmt.Errorf("delete shard %d: %w", id, err)
	}
	n.log.Info("copy of a shard deleted: the shard has moved", "shard", id, "life", s.life)
	return nil
}

// deleteStray deletes a copy that was never opened.
func (n *Node) deleteStray(id uint64, life uint32) error {
	n.mu.Lock()
	have, ok := n.stray[id]
	store := n.store
	n.mu.Unlock()
	if !ok || have != life {
		return nil
	}
	if err := store.RemoveGroup(raftstore.GroupID(id)); err != nil && !errors.Is(err, raftstore.ErrGroupNotFound) {
		return fmt.Errorf("delete shard %d: %w", id, err)
	}
	n.mu.Lock()
	delete(n.stray, id)
	n.mu.Unlock()
	n.log.Info("stray copy of a shard deleted", "shard", id, "life", life)
	return nil
}
