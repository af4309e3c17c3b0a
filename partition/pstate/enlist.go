package pstate

import "strconv"

// Verdict is what the coordinator said about an open transaction that the
// shard enlisted. ACCEPTED changes nothing here and is not proposed.
type Verdict uint8

// The verdicts. Their numbers are written to logs.
const (
	// VerdictStray: the data here was never acknowledged into a committed
	// transaction and is thrown away.
	VerdictStray Verdict = 1
	// VerdictInvalid: a stray with an epoch that was never handed out, or of a
	// producer that has no transactions. It leaves no trace in the floor, which
	// would otherwise lock the real producer out.
	VerdictInvalid Verdict = 2
	// VerdictDecided: this shard is a participant and owes the marker.
	VerdictDecided Verdict = 3
)

// String returns the name of the verdict.
func (v Verdict) String() string {
	switch v {
	case VerdictStray:
		return "STRAY"
	case VerdictInvalid:
		return "INVALID"
	case VerdictDecided:
		return "DECIDED"
	}
	return "VERDICT_" + strconv.Itoa(int(v))
}

// EnlistAnswer is the coordinator's answer about one open transaction.
type EnlistAnswer struct {
	Ref TxnRef
	// OpenedAt echoes the log index of the open record the question was about.
	OpenedAt uint64
	Verdict  Verdict
	// Fence is the producer's current epoch, with VerdictStray for an older
	// epoch; 0 fences nothing.
	Fence uint32
	// Decision is the content of the marker, with VerdictDecided.
	Decision Decision
}

// EnlistAnswers is the command that carries out answers.
type EnlistAnswers struct {
	At   Millis
	List []EnlistAnswer
}

// EnlistAnswers carries out the coordinator's answers, in the order of the
// list. An answer acts only if that very TxnRef is open here with that
// opened_at; otherwise it is about something that has ended since, and is
// dropped. The results are in the order of the list.
func (s *State) EnlistAnswers(index uint64, a EnlistAnswers) []MarkerResult {
	s.step(index, a.At)
	out := make([]MarkerResult, 0, len(a.List))
	for _, ans := range a.List {
		out = append(out, s.answer(ans))
	}
	s.sweep()
	return out
}

func (s *State) answer(a EnlistAnswer) MarkerResult {
	res := MarkerResult{Ref: a.Ref, Code: MarkerDropped}
	p := s.producers[a.Ref.ProducerID]
	if p == nil {
		return res
	}
	t := p.txn(a.Ref.Point())
	if t == nil || t.outcome != OutcomeNone || t.openedAt != a.OpenedAt {
		return res
	}
	switch a.Verdict {
	case VerdictDecided:
		return s.marker(a.Ref, a.Decision)
	case VerdictStray:
		res.Code = MarkerDiscarded
		s.end(t, Decision{Outcome: OutcomeAbort, Reason: ReasonStray}, &res)
		p.raise(t.point)
		p.fence = max(p.fence, a.Fence)
		s.touch(p)
	case VerdictInvalid:
		res.Code = MarkerDiscarded
		s.end(t, Decision{Outcome: OutcomeAbort, Reason: ReasonStray}, &res)
		p.removeTxn(t)
		s.touch(p)
		s.dropIfEmpty(p)
	default:
		res.Code = MarkerInvalid
	}
	return res
}
