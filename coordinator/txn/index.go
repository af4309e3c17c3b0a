package txn

import (
	"cmp"
	"slices"
)

// The indexes of this file are derived from the state. They make the leader's
// questions cheap; no answer to a command depends on their inner order.

// roster lists the ids in ascending producer id. Ids are handed out ascending,
// so additions go to the end; a removal leaves a hole until half are holes.
type roster struct {
	entries []rosterEntry
	holes   int
}

type rosterEntry struct {
	id uint64
	p  *producer // nil for a hole
}

func (r *roster) add(p *producer) {
	r.entries = append(r.entries, rosterEntry{id: p.id, p: p})
}

func (r *roster) remove(id uint64) {
	i := r.from(id)
	if i == len(r.entries) || r.entries[i].id != id || r.entries[i].p == nil {
		return
	}
	r.entries[i].p = nil
	r.holes++
	if 2*r.holes > len(r.entries) {
		r.entries = slices.DeleteFunc(r.entries, func(e rosterEntry) bool { return e.p == nil })
		r.holes = 0
	}
}

// from returns the position of the first entry whose id is at least id.
func (r *roster) from(id uint64) int {
	i, _ := slices.BinarySearchFunc(r.entries, id, func(e rosterEntry, id uint64) int {
		return cmp.Compare(e.id, id)
	})
	return i
}

// holdings counts the ids of every owner that has some.
type holdings map[string]int

func (h holdings) leave(owner string) {
	if h[owner]--; h[owner] == 0 {
		delete(h, owner)
	}
}

// Owned returns how many ids belong to an owner.
func (m *Machine) Owned(owner string) int { return m.owned[owner] }

// OwnerOf returns to whom an id belongs; false: there is no such id.
func (m *Machine) OwnerOf(transactionalID string) (owner string, known bool) {
	p := m.byName[transactionalID]
	if p == nil {
		return "", false
	}
	return p.owner, true
}

// idleList links the ids with nothing open or completing by their last update,
// oldest first. The machine's time never moves back, so whatever is touched
// belongs at the end.
type idleList struct{ head, tail *producer }

func (l *idleList) pushBack(p *producer) {
	p.inIdle, p.idlePrev, p.idleNext = true, l.tail, nil
	if l.tail == nil {
		l.head = p
	} else {
		l.tail.idleNext = p
	}
	l.tail = p
}

func (l *idleList) remove(p *producer) {
	if !p.inIdle {
		return
	}
	if p.idlePrev == nil {
		l.head = p.idleNext
	} else {
		p.idlePrev.idleNext = p.idleNext
	}
	if p.idleNext == nil {
		l.tail = p.idlePrev
	} else {
		p.idleNext.idlePrev = p.idlePrev
	}
	p.inIdle, p.idlePrev, p.idleNext = false, nil, nil
}

// deadlineHeap is a binary heap of the open transactions, earliest deadline on
// top; equal deadlines in ascending producer id.
type deadlineHeap []*openTxn

func (h deadlineHeap) before(i, j int) bool {
	if h[i].deadline != h[j].deadline {
		return h[i].deadline < h[j].deadline
	}
	return h[i].producer.id < h[j].producer.id
}

func (h deadlineHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

func (h *deadlineHeap) push(o *openTxn) {
	o.heapIndex = len(*h)
	*h = append(*h, o)
	h.up(o.heapIndex)
}

func (h *deadlineHeap) remove(o *openTxn) {
	i, last := o.heapIndex, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	if i < last {
		h.up(i)
		h.down(i)
	}
}

func (h deadlineHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h deadlineHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h.before(child+1, child) {
			child++
		}
		if !h.before(child, i) {
			return
		}
		h.swap(i, child)
		i = child
	}
}

// owedList links the unacknowledged participants of one shard in the order of
// the decisions.
type owedList struct {
	head, tail *participant
	length     int
}

// owe appends pt to the list of its shard. Decisions are numbered ascending, so
// the end is its place.
func (m *Machine) owe(pt *participant) {
	l := m.owed[pt.shard]
	if l == nil {
		l = &owedList{}
		m.owed[pt.shard] = l
	}
	pt.prev = l.tail
	if l.tail == nil {
		l.head = pt
	} else {
		l.tail.next = pt
	}
	l.tail = pt
	l.length++
}

// settle takes pt out of the list of its shard.
func (m *Machine) settle(pt *participant) {
	l := m.owed[pt.shard]
	if pt.prev == nil {
		l.head = pt.next
	} else {
		pt.prev.next = pt.next
	}
	if pt.next == nil {
		l.tail = pt.prev
	} else {
		pt.next.prev = pt.prev
	}
	pt.prev, pt.next = nil, nil
	l.length--
	if l.length == 0 {
		delete(m.owed, pt.shard)
	}
}
