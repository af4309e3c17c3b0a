package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// TxID names one transaction, for ever and everywhere. It can be stored beside
// an application's own data and asked about later, see [Client.Outcome].
type TxID struct {
	// TransactionalID is the name that the application gave its producer.
	TransactionalID string
	// ProducerID is the cluster's number for it.
	ProducerID uint64
	// Epoch is raised by every InitTransactions.
	Epoch uint32
	// Number counts the transactions of an epoch from 1.
	Number uint64
}

// String returns "id:producer/epoch/number".
func (t TxID) String() string {
	return fmt.Sprintf("%s:%d/%d/%d", t.TransactionalID, t.ProducerID, t.Epoch, t.Number)
}

// ParseTxID is the reverse of String.
func ParseTxID(text string) (TxID, error) {
	// The transactional id may have every character in it.
	id, numbers := "", text
	if at := strings.LastIndexByte(text, ':'); at >= 0 {
		id, numbers = text[:at], text[at+1:]
	}
	parts := strings.Split(numbers, "/")
	if id != "" && len(id) <= maxNameBytes && len(parts) == 3 {
		producer, err1 := strconv.ParseUint(parts[0], 10, 64)
		epoch, err2 := strconv.ParseUint(parts[1], 10, 32)
		number, err3 := strconv.ParseUint(parts[2], 10, 64)
		if errors.Join(err1, err2, err3) == nil {
			return TxID{TransactionalID: id, ProducerID: producer, Epoch: uint32(epoch), Number: number}, nil
		}
	}
	return TxID{}, invalid("parse transaction id", "%q: it must be ID:PRODUCER_ID/EPOCH/NUMBER, such as transfers-1:4711/3/12", text)
}

func (t TxID) ref() *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: t.ProducerID, Epoch: t.Epoch, TxnNumber: t.Number}
}

// Outcome is how a transaction ended, if it has.
type Outcome uint8

// Outcomes.
const (
	// OutcomeUnknown: nobody has been asked, or nobody has answered.
	OutcomeUnknown Outcome = iota
	// OutcomeOpen: not decided. A commit that is still under way may decide it.
	OutcomeOpen
	// OutcomeCommitted: committed, for ever.
	OutcomeCommitted
	// OutcomeAborted: aborted, for ever.
	OutcomeAborted
	// OutcomeForgotten: ended so long ago that the cluster no longer remembers how;
	// it remembers the last 16 of a transactional id.
	OutcomeForgotten
	// OutcomeInvalid: no such transaction was ever handed out.
	OutcomeInvalid
	// OutcomePrepared: not decided; it waits for the word of another system, see
	// Client.CompletePrepared.
	OutcomePrepared
)

// String returns the outcome in one lower case word.
func (o Outcome) String() string {
	switch o {
	case OutcomeOpen:
		return "open"
	case OutcomeCommitted:
		return "committed"
	case OutcomeAborted:
		return "aborted"
	case OutcomeForgotten:
		return "forgotten"
	case OutcomeInvalid:
		return "invalid"
	case OutcomePrepared:
		return "prepared"
	default:
		return "unknown"
	}
}

func outcomeOf(o oncelogv1.TransactionOutcome) Outcome {
	switch o {
	case oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED:
		return OutcomeCommitted
	case oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED:
		return OutcomeAborted
	case oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN:
		return OutcomeOpen
	case oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_FORGOTTEN:
		return OutcomeForgotten
	case oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_INVALID:
		return OutcomeInvalid
	case oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_PREPARED:
		return OutcomePrepared
	default:
		return OutcomeUnknown
	}
}

// Outcome asks the cluster how a transaction ended. OutcomeOpen is not a final
// answer: a commit that is still under way may arrive. Only Commit on the same
// Tx, a later transaction, or a new InitTransactions settles it.
func (c *Client) Outcome(ctx context.Context, id TxID) (Outcome, error) {
	var resp *oncelogv1.GetOutcomeResponse
	_, err := c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) (err error) {
		resp, err = oncelogv1.NewTransactionServiceClient(cc).GetOutcome(ctx, &oncelogv1.GetOutcomeRequest{Txn: id.ref()})
		return err
	})
	if err != nil {
		e := wrap("outcome", err)
		e.TxID = id
		return OutcomeUnknown, e
	}
	return outcomeOf(resp.GetOutcome()), nil
}
