package txn

// MarkersApplied notes what shards answered to markers.
type MarkersApplied struct{ Items []MarkerAck }

// MarkerAck is one shard's answer to one marker.
type MarkerAck struct {
	Ref    Ref
	Shard  uint64
	Answer MarkerAnswer
}

// MarkerAnswer is what became of a marker. Each of them completes the
// participant: repeating a marker that cannot be applied helps nobody.
type MarkerAnswer uint8

// The answers of a shard.
const (
	// MarkerApplied: the decision took effect now.
	MarkerApplied MarkerAnswer = iota + 1
	// MarkerAlready: it had taken effect before.
	MarkerAlready
	// MarkerMissingData: the shard has fewer records than the commit states.
	// The outcome is marked damaged.
	MarkerMissingData
	// MarkerConflict: the shard remembers the opposite. The outcome is
	// marked damaged.
	MarkerConflict
	// MarkerRemoved: the shard no longer exists.
	MarkerRemoved

	lastMarkerAnswer = MarkerRemoved
)

// String returns the answer in capitals, as people and metrics see it.
func (a MarkerAnswer) String() string {
	switch a {
	case MarkerApplied:
		return "APPLIED"
	case MarkerAlready:
		return "ALREADY"
	case MarkerMissingData:
		return "MISSING_DATA"
	case MarkerConflict:
		return "CONFLICT"
	case MarkerRemoved:
		return "REMOVED"
	}
	return "MARKER_ANSWER_UNKNOWN"
}

// MarkersAppliedResult answers a [MarkersApplied].
type MarkersAppliedResult struct {
	// Noted counts the items that were news; the others were duplicates.
	Noted int
	// Damaged counts the items among them that marked an outcome damaged.
	Damaged int
	// Completed lists the transactions that were over with this command.
	Completed []Ref
}

// MarkersApplied executes the command of that name. Items about anything that
// is not owed are ignored: acknowledgements may be repeated and come late.
func (m *Machine) MarkersApplied(at Millis, c MarkersApplied) MarkersAppliedResult {
	m.advance(at)
	var res MarkersAppliedResult
	for _, item := range c.Items {
		p := m.byID[item.Ref.ProducerID]
		if p == nil || !item.Answer.legal() {
			continue
		}
		pt := p.completion(item.Ref).participant(item.Shard)
		if pt == nil || pt.acknowledged {
			continue
		}
		damaged := item.Answer == MarkerMissingData || item.Answer == MarkerConflict
		res.Noted++
		if damaged {
			res.Damaged++
		}
		if m.acknowledge(pt, damaged) {
			res.Completed = append(res.Completed, item.Ref)
		}
	}
	return res
}

func (MarkersApplied) kind() kind { return kindMarkersApplied }

func (c MarkersApplied) apply(m *Machine, at Millis, _ Env) Result { return m.MarkersApplied(at, c) }

func (MarkersAppliedResult) result() {}
