package conformance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// idCommand is a column of the table of what names a transactional id and no
// transaction.
type idCommand struct {
	name string
	do   func(s *scene) string
}

func idCommands() []idCommand {
	return []idCommand{
		{"InitProducer", func(s *scene) string { return s.takeOver("") }},
		{"the one of epoch 1, repeated", func(s *scene) string { return s.takeOver(s.p.id + "/1") }},
		{"the one of epoch 0, repeated", func(s *scene) string { return s.takeOver(s.p.id + "/0") }},
		{"FenceProducer", func(s *scene) string {
			res, err := s.leader().txns.FenceProducer(s.within(patience), &oncelogv1.FenceProducerRequest{TransactionalId: s.p.id})
			if err != nil {
				return refusal(err)
			}
			return fmt.Sprint("OK, epoch ", res.GetEpoch())
		}},
		{"AbortTransaction of what is open", func(s *scene) string {
			res, err := s.leader().txns.AbortTransaction(s.within(patience), &oncelogv1.AbortTransactionRequest{TransactionalId: s.p.id})
			switch {
			case err != nil:
				return refusal(err)
			case res.GetTxn() == nil:
				return "OK, none"
			default:
				return fmt.Sprint("OK, ", res.GetTxn().GetTxnNumber())
			}
		}},
		{"DeleteTransactionalId", func(s *scene) string {
			_, err := s.leader().txns.DeleteTransactionalId(s.within(time.Second), &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: s.p.id})
			return code(err)
		}},
	}
}

// takeOver is an InitProducer and says what its caller learns: its epoch, the
// last transaction of the id, and how many shards have yet to apply something.
func (s *scene) takeOver(request string) string {
	s.t.Helper()
	res, err := s.initAs(&oncelogv1.InitProducerRequest{
		TransactionalId: s.p.id, TimeoutMs: timeoutMillis, RequestId: request, NoWait: true,
	})
	if err != nil {
		return refusal(err)
	}
	text := fmt.Sprint("epoch ", res.GetEpoch())
	if p := res.GetPrevious(); p != nil {
		outcome := strings.ToLower(strings.TrimPrefix(p.GetOutcome().String(), "TRANSACTION_OUTCOME_"))
		text += fmt.Sprintf(" after %d/%d %s", p.GetTxn().GetEpoch(), p.GetTxn().GetTxnNumber(), strings.TrimSpace(outcome+" "+reasonText(p.GetReason())))
	}
	if n := len(res.GetIncompleteShards()); n > 0 {
		text += "*"
	}
	if res.GetProducerId() != s.p.pid {
		text += ", another producer id"
	}
	proven := s.keys.Check(res.GetProducerToken(), res.GetProducerId(), res.GetEpoch())
	s.equal("the token proves what was handed out", proven, true)
	return text
}

// TestIDs: state of the id x command that names the id.
func TestIDs(t *testing.T) {
	f := &filler{}
	g := f.grid("What names the id", names(idCommands(), func(c idCommand) string { return c.name }))
	t.Run("cells", func(t *testing.T) {
		for _, st := range states() {
			t.Run(st.name, func(t *testing.T) {
				stage(t, st, func(enter func() *scene) {
					for _, cmd := range idCommands() {
						s := enter()
						f.fill(g, st.name, cmd.name, s.act(false, func() string { return cmd.do(s) }))
					}
				})
			})
		}
	})
	t.Logf("figures: cells %d", compare(t, "ids.txt", f.grids))
}
