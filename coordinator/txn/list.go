package txn

import (
	"slices"
	"strings"
)

// listScan bounds how many ids one List call looks at, so that a filter that
// matches nothing cannot hold up the caller's loop.
const listScan = 20_000

// ListFilter selects transactional ids. Its zero value selects all.
type ListFilter struct {
	// States, when not empty, are the states to show.
	States []State
	// IDPrefix and IDContains restrict the transactional id.
	IDPrefix, IDContains string
	// OlderThan, when above 0, restricts to ids whose oldest unfinished
	// transaction was started (open, prepared) or decided (completing) at least that
	// long ago (a span).
	OlderThan Millis
}

// Summary is one line of a list.
type Summary struct {
	TransactionalID string
	ProducerID      uint64
	Epoch           uint32
	State           State
	ClientHost      string
	// Last is the open or prepared transaction, or else the newest decided one; its Number
	// is 0 when there was none.
	Last Ref
	// Completing counts the decided transactions that some shard has not
	// acknowledged.
	Completing int
	// Age is that of the oldest unfinished transaction (a span), 0 if none.
	Age       Millis
	UpdatedAt Millis
}

// ListPage is one page of a list.
type ListPage struct {
	Items []Summary
	// Next continues the list in another call; 0 means that this is the end.
	// A page may be short, even empty, and not be the last.
	Next uint64
}

// List returns at most limit ids that match, in the order in which they were
// created, beginning after the page token after (0 for the first page). The
// number of transactional ids it looks at is bounded.
func (m *Machine) List(f ListFilter, now Millis, after uint64, limit int) ListPage {
	var page ListPage
	now = max(now, m.now)
	start := 0
	if after > 0 {
		start = m.order.from(after)
		if start < len(m.order.entries) && m.order.entries[start].id == after {
			start++
		}
	}
	for i := start; i < len(m.order.entries); i++ {
		if len(page.Items) >= limit || i-start >= listScan {
			if i > start {
				page.Next = m.order.entries[i-1].id
			}
			return page
		}
		if p := m.order.entries[i].p; p != nil && f.matches(p, now) {
			page.Items = append(page.Items, p.summary(now))
		}
	}
	return page
}

func (f ListFilter) matches(p *producer, now Millis) bool {
	if !strings.HasPrefix(p.name, f.IDPrefix) || !strings.Contains(p.name, f.IDContains) {
		return false
	}
	if len(f.States) > 0 && !slices.Contains(f.States, p.state()) {
		return false
	}
	return f.OlderThan <= 0 || !p.quiet() && p.age(now) >= f.OlderThan
}

// age is how long the oldest unfinished transaction has been under way.
func (p *producer) age(now Millis) Millis {
	switch {
	case len(p.completing) > 0:
		return now - p.completing[0].decision.at
	case p.open != nil:
		return now - p.open.startedAt
	case p.prepared != nil:
		return now - p.prepared.startedAt
	}
	return 0
}

func (p *producer) summary(now Millis) Summary {
	return Summary{
		TransactionalID: p.name,
		ProducerID:      p.id,
		Epoch:           p.epoch,
		State:           p.state(),
		ClientHost:      p.clientHost,
		Last:            p.newest(),
		Completing:      len(p.completing),
		Age:             p.age(now),
		UpdatedAt:       p.updated,
	}
}

// newest is the open or prepared transaction, or else the newest decided one.
func (p *producer) newest() Ref {
	if p.prepared != nil {
		return p.prepared.ref
	}
	if p.open != nil {
		return p.ref(p.epoch, p.open.number)
	}
	return p.refOf(p.latest)
}

// Counts are figures for metrics.
type Counts struct {
	IDs int
	// Open counts the undecided transactions but those that are Prepared, Owed the
	// markers that shards have not acknowledged.
	Open, Prepared, Owed int
}

// Counts returns the sizes of the machine.
func (m *Machine) Counts() Counts {
	c := Counts{IDs: len(m.byID), Open: len(m.deadlines), Prepared: len(m.prepared)}
	for _, l := range m.owed { // a sum: the order does not matter
		c.Owed += l.length
	}
	return c
}
