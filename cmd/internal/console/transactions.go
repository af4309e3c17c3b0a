package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// pageLines is how many lines a list has on a page.
const pageLines = 100

// listData is a page of transactional ids with the filter that it was asked for.
type listData struct {
	State, ID, Older string
	States           []string
	Lines            []*oncelogv1.TransactionListing
	// Next is the address of the next page, Live that of the events.
	Next, Live string
}

// filter reads what both the list and its events are filtered by.
func (p *params) filter() *oncelogv1.ListTransactionsRequest {
	req := &oncelogv1.ListTransactionsRequest{IdContains: p.text("id", maxName, false), OlderThanMs: p.span("older", maxOlder).Milliseconds(), PageSize: pageLines}
	if state := p.state("state"); state != 0 {
		req.States = []oncelogv1.TransactionState{state}
	}
	req.PageToken = p.text("page", maxToken, false)
	return req
}

// transactions lists transactional ids.
func (h *Handler) transactions(ctx context.Context, r *http.Request) (*view, error) {
	p := &params{values: r.URL.Query()}
	req := p.filter()
	if p.err != nil {
		return nil, p.err
	}
	resp, err := h.admin.ListTransactions(ctx, req)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	data := listData{State: q.Get("state"), ID: q.Get("id"), Older: q.Get("older"), States: states, Lines: resp.GetTransactions()}
	data.Live = "/transactions/events?" + url.Values{"id": {data.ID}}.Encode()
	if next := resp.GetNextPageToken(); next != "" {
		data.Next = "/transactions?" + url.Values{"state": {data.State}, "id": {data.ID}, "older": {data.Older}, "page": {next}}.Encode()
	}
	args := []string{"txn", "list"}
	for _, f := range [][2]string{{"--state", data.State}, {"--id", data.ID}, {"--older-than", data.Older}} {
		if f[1] != "" {
			args = append(args, f[0]+"="+f[1])
		}
	}
	return &view{
		Title: "Transactions", Section: "transactions", Template: "transactions", Data: data,
		Commands: commands{h.cli(args...), h.grpcurl(h.coordinatorAddress(ctx), "TransactionService/ListTransactions", req)},
	}, nil
}

// transactionData is one transactional id.
type transactionData struct {
	*oncelogv1.DescribeTransactionResponse
	// Steps are the events that are known of it, oldest first; Missed: there were
	// earlier ones.
	Steps  []stepLine
	Missed bool
	// Writes are where the open transaction has records.
	Writes []writeLine
	Live   string
}

// stepLine is one step of the timeline.
type stepLine struct {
	*oncelogv1.TransactionEvent
	// After is the time since the step before, of the same transaction.
	After string
	// First begins another transaction.
	First bool
	What  string
}

// writeLine is what a partition knows of an open transaction.
type writeLine struct {
	Partition   *oncelogv1.PartitionRef
	Shard       uint64
	FirstOffset *uint64
	Next        uint64
	LastAppend  int64
	// Holds: it is this transaction that holds the partition's readers back.
	Holds bool
	Error string
}

// transaction shows one transactional id and its timeline.
func (h *Handler) transaction(ctx context.Context, r *http.Request) (*view, error) {
	p := &params{values: r.URL.Query()}
	id, producer := p.text("id", maxName, false), p.number("producer_id", 1, 1<<64-1, 0)
	switch {
	case p.err != nil:
		return nil, p.err
	case (id == "") == (producer == 0):
		return nil, &paramError{"id", "or producer_id is missing, or both are given"}
	}
	data := &transactionData{}
	var err error
	if id != "" {
		data.DescribeTransactionResponse, err = h.admin.DescribeTransaction(ctx, id)
	} else {
		data.DescribeTransactionResponse, err = h.admin.DescribeProducer(ctx, producer)
	}
	if err != nil {
		return nil, err
	}
	id = data.GetTransactionalId()
	if err := h.timeline(ctx, data); err != nil {
		return nil, err
	}
	h.writes(ctx, data)
	data.Live = "/transactions/events?" + url.Values{"only": {id}}.Encode()
	return &view{
		Title: "Transaction " + output.Printable(id), Section: "transactions", Template: "transaction", Data: data,
		Commands: commands{
			h.cli("txn", "describe", "--", id) + "\n" + h.cli("txn", "history", "--", id),
			h.grpcurl(h.coordinatorAddress(ctx), "TransactionService/DescribeTransaction", &oncelogv1.DescribeTransactionRequest{TransactionalId: id}) + "\n" +
				h.grpcurl(h.coordinatorAddress(ctx), "TransactionService/WatchTransactions",
					&oncelogv1.WatchTransactionsRequest{TransactionalId: id, AfterIndex: proto.Uint64(0), NoFollow: true}),
		},
	}, nil
}

// maxSteps bounds a timeline; of more the newest are shown.
const maxSteps = 300

// timeline adds what the coordinator remembers of what happened.
func (h *Handler) timeline(ctx context.Context, data *transactionData) error {
	req := &oncelogv1.WatchTransactionsRequest{TransactionalId: data.GetTransactionalId(), AfterIndex: proto.Uint64(0), NoFollow: true}
	var events []*oncelogv1.TransactionEvent
	if err := h.admin.WatchTransactions(ctx, req, func(resp *oncelogv1.WatchTransactionsResponse) error {
		events = append(events, resp.GetEvents()...)
		data.Missed = data.Missed || resp.GetMissed()
		if over := len(events) - maxSteps; over > 0 {
			events, data.Missed = events[over:], true
		}
		return nil
	}); err != nil {
		return err
	}
	var before *oncelogv1.TransactionEvent
	for _, e := range events {
		step := stepLine{TransactionEvent: e, What: whatHappened(e)}
		if before != nil && txnName(before.GetTxn()) == txnName(e.GetTxn()) {
			step.After = "+" + output.Millis(max(e.GetAtMs()-before.GetAtMs(), 0))
		} else {
			step.First = true
		}
		before = e
		data.Steps = append(data.Steps, step)
	}
	return nil
}

// whatHappened says an event in words.
func whatHappened(e *oncelogv1.TransactionEvent) string {
	outcome := output.Enum(e.GetOutcome(), "TRANSACTION_OUTCOME")
	if e.GetReason() != 0 {
		outcome += " (" + output.Enum(e.GetReason(), "ABORT_REASON") + ")"
	}
	if e.GetDamaged() {
		outcome += ", damaged"
	}
	switch e.GetKind() {
	case oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_INITIALISED:
		return fmt.Sprintf("epoch %d begins; earlier users are fenced", e.GetTxn().GetEpoch())
	case oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_BEGUN:
		return "begun"
	case oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_ENLISTED:
		return fmt.Sprintf("shard %d enlisted: it has first records", e.GetShardId())
	case oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_PREPARED:
		return "prepared: it waits for the word of another system"
	case oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_DECIDED:
		return "decided: " + outcome
	case oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_APPLIED:
		return fmt.Sprintf("marker applied by shard %d: %s", e.GetShardId(), outcome)
	case oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_COMPLETED:
		if e.GetOutcome() == oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED {
			return "complete: visible, unless an older open transaction holds readers back"
		}
		return "complete: its records are skipped everywhere"
	case oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_FORGOTTEN:
		return "the transactional id was forgotten"
	case oncelogv1.TransactionEventKind_TRANSACTION_EVENT_KIND_UNSPECIFIED:
	}
	return output.Enum(e.GetKind(), "TRANSACTION_EVENT_KIND")
}

// maxWrites bounds the partitions that are asked about an open transaction.
const maxWrites = 64

// writes asks the partitions of the open transaction what they have of it. One that
// does not answer is shown so.
func (h *Handler) writes(ctx context.Context, data *transactionData) {
	for _, part := range data.GetOpen().GetParticipants() {
		for _, progress := range part.GetPartitions() {
			if len(data.Writes) == maxWrites {
				return
			}
			line := writeLine{Partition: progress.GetPartition(), Shard: part.GetShardId()}
			h.writesIn(ctx, &line, data.GetOpen().GetTxn())
			data.Writes = append(data.Writes, line)
		}
	}
}

func (h *Handler) writesIn(ctx context.Context, line *writeLine, txn *oncelogv1.TxnRef) {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	producers, err := h.admin.DescribeProducers(ctx, topicPartition(line.Partition))
	if err != nil {
		line.Error = output.Printable(err.Error())
		return
	}
	oldest := true
	for _, p := range producers {
		if txnName(p.GetTxn()) == txnName(txn) {
			line.FirstOffset, line.Next, line.LastAppend = p.FirstOffset, p.GetNextSequence(), p.GetLastAppendMs()
		}
	}
	for _, p := range producers {
		if p.FirstOffset != nil && line.FirstOffset != nil && *p.FirstOffset < *line.FirstOffset {
			oldest = false
		}
	}
	line.Holds = oldest && line.FirstOffset != nil
}

// eventLine is an event as the script gets it: texts, which it shows as texts.
type eventLine struct {
	At   string `json:"at"`
	ID   string `json:"id"`
	Href string `json:"href"`
	Txn  string `json:"txn"`
	What string `json:"what"`
}

// streamWrite bounds one write to a live view; a browser that is slower is let go, and
// comes back by itself.
const streamWrite = 10 * time.Second

// errStopping ends a live view when the console stops.
var errStopping = errors.New("console: stopping")

// events is the stream of what happens to transactions, for the script.
func (h *Handler) events(w http.ResponseWriter, r *http.Request) {
	p := &params{values: r.URL.Query()}
	contains := p.text("id", maxName, false)
	req := &oncelogv1.WatchTransactionsRequest{TransactionalId: p.text("only", maxName, false)}
	if p.err != nil {
		http.Error(w, p.err.Error(), http.StatusBadRequest)
		return
	}
	if h.streams.Add(1) > maxStreams {
		h.streams.Add(-1)
		http.Error(w, fmt.Sprintf("there are %d live views, which is the limit", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer h.streams.Add(-1)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-h.closing:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	s := &eventStream{w: w, control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	_ = h.admin.WatchTransactions(ctx, req, func(resp *oncelogv1.WatchTransactionsResponse) error {
		return s.send(resp, contains)
	}) // however it ends, the browser comes back
}

// eventStream writes server-sent events.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s *eventStream) send(resp *oncelogv1.WatchTransactionsResponse, contains string) error {
	var lines []eventLine
	for _, e := range resp.GetEvents() {
		if !strings.Contains(e.GetTransactionalId(), contains) {
			continue
		}
		lines = append(lines, eventLine{
			At: output.Time(e.GetAtMs()), ID: output.Printable(e.GetTransactionalId()), Txn: txnName(e.GetTxn()), What: whatHappened(e),
			Href: "/transaction?" + url.Values{"id": {e.GetTransactionalId()}}.Encode(),
		})
	}
	data, err := json.Marshal(struct {
		Missed bool        `json:"missed"`
		Events []eventLine `json:"events"`
	}{resp.GetMissed(), lines})
	if err != nil {
		return err
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := fmt.Fprintf(s.w, "data: %s\n\n", data); err != nil {
		return err
	}
	return s.control.Flush()
}
