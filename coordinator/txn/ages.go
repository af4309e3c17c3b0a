package txn

// Ages says how old the open transactions are at some time.
type Ages struct {
	// Counts has a number more than there are bounds: how many are younger than the
	// first bound, than the second and not the first, and so on; the last ones are
	// as old as the last bound, or older.
	Counts []int
	// Oldest is the age of the oldest (a span), 0 without any.
	Oldest Millis
}

// OpenAges counts the open transactions by age at now; bounds are spans, ascending.
// It looks at every open transaction.
func (m *Machine) OpenAges(now Millis, bounds []Millis) Ages {
	now = max(now, m.now)
	ages := Ages{Counts: make([]int, len(bounds)+1)}
	for _, o := range m.deadlines {
		age := now - o.startedAt
		i := 0
		for i < len(bounds) && age >= bounds[i] {
			i++
		}
		ages.Counts[i]++
		ages.Oldest = max(ages.Oldest, age)
	}
	return ages
}

// PreparedAge returns how long ago the oldest of the prepared transactions was
// prepared at now (a span), 0 without any. It looks at all of them.
func (m *Machine) PreparedAge(now Millis) (oldest Millis) {
	now = max(now, m.now)
	for _, t := range m.prepared { // a maximum: the order does not matter
		oldest = max(oldest, now-t.preparedAt)
	}
	return oldest
}

// Completing counts the decided transactions that some shard has not acknowledged,
// and returns how long ago the oldest of them was decided at now (a span). It looks
// at every marker that is owed.
func (m *Machine) Completing(now Millis) (count int, oldest Millis) {
	now = max(now, m.now)
	for _, l := range m.owed { // a sum and a maximum: the order does not matter
		// A list is in the order of the decisions, and the machine's time never
		// moves back.
		oldest = max(oldest, now-l.head.of.decision.at)
		for pt := l.head; pt != nil; pt = pt.next {
			if pt == pt.of.firstPending() {
				count++
			}
		}
	}
	return count, oldest
}

// firstPending returns the participant with the lowest shard that has not
// acknowledged; nil if all have.
func (c *completion) firstPending() *participant {
	for i := range c.participants {
		if !c.participants[i].acknowledged {
			return &c.participants[i]
		}
	}
	return nil
}
