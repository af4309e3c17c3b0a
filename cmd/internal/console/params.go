package console

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// Limits of what addresses and forms may say.
const (
	maxName        = 249
	maxToken       = 512
	maxOlder       = 30 * 24 * time.Hour
	defaultRecords = 50
	maxRecords     = 200
)

// paramError says which parameter is wrong, and what it must be.
type paramError struct{ field, must string }

// Error says both.
func (e *paramError) Error() string { return e.field + " " + e.must }

// params are the values of a request. The first that is wrong is kept; values are
// zero from then on.
type params struct {
	values url.Values
	err    error
}

func (p *params) fail(field, format string, args ...any) {
	if p.err == nil {
		p.err = &paramError{field, fmt.Sprintf(format, args...)}
	}
}

// text returns a text of limited length; required: and not empty.
func (p *params) text(field string, limit int, required bool) string {
	all := p.values[field]
	switch {
	case len(all) > 1:
		p.fail(field, "is given %d times: once is enough", len(all))
	case len(all) == 0 || all[0] == "":
		if required {
			p.fail(field, "is missing")
		}
	case len(all[0]) > limit:
		p.fail(field, "has %d bytes: at most %d", len(all[0]), limit)
	default:
		return all[0]
	}
	return ""
}

// number returns a whole number within bounds, or def if none is given.
func (p *params) number(field string, least, most, def uint64) uint64 {
	text := p.text(field, 20, false)
	if text == "" {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		p.fail(field, "is %q: it must be a whole number from %d to %d", output.Printable(text), least, most)
		return def
	}
	return n
}

// span returns a duration such as 30s; 0 if none is given.
func (p *params) span(field string, most time.Duration) time.Duration {
	text := p.text(field, 20, false)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		p.fail(field, "is %q: it must be a duration such as 30s or 5m, at most %s", output.Printable(text), most)
		return 0
	}
	return d
}

// states are the states of transactions by the names that people use, in their order.
var states = stateNames()

func stateNames() []string {
	var names []string
	for n := int32(1); n < int32(len(oncelogv1.TransactionState_name)); n++ {
		names = append(names, output.Enum(oncelogv1.TransactionState(n), "TRANSACTION_STATE"))
	}
	return names
}

// state returns a state by its name; unspecified if none is given.
func (p *params) state(field string) oncelogv1.TransactionState {
	text := p.text(field, 20, false)
	if text == "" {
		return oncelogv1.TransactionState_TRANSACTION_STATE_UNSPECIFIED
	}
	i := slices.Index(states, text)
	if i < 0 {
		p.fail(field, "is %q: it must be one of %s", output.Printable(text), strings.Join(states, ", "))
	}
	return oncelogv1.TransactionState(i + 1)
}

// txn returns a transaction as PRODUCER/EPOCH/NUMBER; nil if none is given.
func (p *params) txn(field string) *oncelogv1.TxnRef {
	text := p.text(field, 64, false)
	if text == "" {
		return nil
	}
	parts := strings.Split(text, "/")
	if len(parts) == 3 {
		producer, err1 := strconv.ParseUint(parts[0], 10, 64)
		epoch, err2 := strconv.ParseUint(parts[1], 10, 32)
		number, err3 := strconv.ParseUint(parts[2], 10, 64)
		if err1 == nil && err2 == nil && err3 == nil {
			return &oncelogv1.TxnRef{ProducerId: producer, Epoch: uint32(epoch), TxnNumber: number}
		}
	}
	p.fail(field, "is %q: it must be PRODUCER_ID/EPOCH/TXN_NUMBER", output.Printable(text))
	return nil
}

// txnName writes a transaction as txn reads it.
func txnName(t *oncelogv1.TxnRef) string {
	return fmt.Sprintf("%d/%d/%d", t.GetProducerId(), t.GetEpoch(), t.GetTxnNumber())
}
