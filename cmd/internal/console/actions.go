package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// action is something that changes the cluster, before it is confirmed.
type action struct {
	Name string // abort, fence or move-leader
	// ID, and Txn if it is about one, name whom it hits.
	ID  string
	Txn *oncelogv1.TxnRef
	// Epoch is the one that a fence finishes.
	Epoch uint64
	Shard uint64
	To    uint64
}

// readAction reads an action and its target.
func readAction(values url.Values) (action, error) {
	p := &params{values: values}
	a := action{Name: p.text("action", 20, true)}
	switch a.Name {
	case "abort":
		a.ID, a.Txn = p.text("id", maxName, true), p.txn("txn")
		if a.Txn == nil {
			p.fail("txn", "is missing: the transaction that is meant, and no later one")
		}
	case "fence":
		a.ID = p.text("id", maxName, true)
		if a.Epoch = p.number("epoch", 0, 1<<32-1, 1<<32); a.Epoch == 1<<32 {
			p.fail("epoch", "is missing: the one that is finished")
		}
	case "move-leader":
		a.Shard, a.To = p.number("shard", 1, 1<<63, 0), p.number("to", 1, 1<<32-1, 0)
		if a.Shard == 0 {
			p.fail("shard", "is missing")
		}
		if a.To == 0 {
			p.fail("to", "is missing: the node that is to lead")
		}
	default:
		p.fail("action", "is %q: it must be abort, fence or move-leader", output.Printable(a.Name))
	}
	return a, p.err
}

// fields are what the form carries.
func (a action) fields() [][2]string {
	f := [][2]string{{"action", a.Name}}
	if a.Name == "move-leader" {
		return append(f, [2]string{"shard", strconv.FormatUint(a.Shard, 10)}, [2]string{"to", strconv.FormatUint(a.To, 10)})
	}
	f = append(f, [2]string{"id", a.ID})
	if a.Name == "fence" {
		f = append(f, [2]string{"epoch", strconv.FormatUint(a.Epoch, 10)})
	}
	if a.Txn != nil {
		f = append(f, [2]string{"txn", txnName(a.Txn)})
	}
	return f
}

// back is the page from which it was asked for.
func (a action) back() string {
	if a.Name == "move-leader" {
		return "/"
	}
	return "/transaction?" + url.Values{"id": {a.ID}}.Encode()
}

// commands are the same action for the command line.
func (h *Handler) actionCommands(ctx context.Context, a action) commands {
	at := h.coordinatorAddress(ctx)
	switch a.Name {
	case "abort":
		return commands{
			h.cli("txn", "abort", "--txn", txnName(a.Txn), "--", a.ID),
			h.grpcurl(at, "TransactionService/AbortTransaction", &oncelogv1.AbortTransactionRequest{TransactionalId: a.ID, Txn: a.Txn}),
		}
	case "fence":
		return commands{
			h.cli("producer", "fence", "--epoch", strconv.FormatUint(a.Epoch, 10), "--", a.ID),
			h.grpcurl(at, "TransactionService/FenceProducer", &oncelogv1.FenceProducerRequest{TransactionalId: a.ID, Epoch: proto.Uint32(uint32(a.Epoch))}),
		}
	default:
		return commands{
			h.cli("cluster", "move-leader", strconv.FormatUint(a.Shard, 10), "--to", strconv.FormatUint(a.To, 10)),
			h.grpcurl(at, "PlacementService/MoveLeader", &oncelogv1.MoveLeaderRequest{ShardId: a.Shard, ToNode: a.To}),
		}
	}
}

// confirmData is what is asked before anything is done.
type confirmData struct {
	Question, Consequence, Button string
	Fields                        [][2]string
	Token, Back                   string
}

// confirm asks.
func (h *Handler) confirm(ctx context.Context, r *http.Request) (*view, error) {
	a, err := readAction(r.URL.Query())
	if err != nil {
		return nil, err
	}
	data := confirmData{Fields: a.fields(), Token: h.forms.token(sessionOf(ctx)), Back: a.back()}
	id := output.Printable(a.ID)
	switch a.Name {
	case "abort":
		data.Question = fmt.Sprintf("Abort transaction %s of %s?", txnName(a.Txn), id)
		data.Consequence = "Its records are never shown to readers who read committed. Its producer is told CONFLICT with reason ADMIN, and goes on with its next transaction. This cannot be undone."
		data.Button = "Abort the transaction"
	case "fence":
		data.Question = fmt.Sprintf("Fence the producer of %s, epoch %d?", id, a.Epoch)
		data.Consequence = "Whoever uses this transactional id now is told FENCED and ends, and its open transaction is aborted. An instance that is started afterwards works. This cannot be undone."
		data.Button = "Fence the producer"
	default:
		what := "shard " + strconv.FormatUint(a.Shard, 10)
		if a.Shard == 1 {
			what = "the coordinator"
		}
		data.Question = fmt.Sprintf("Move the leadership of %s to node %d?", what, a.To)
		data.Consequence = "Appends and reads pause for a moment and are repeated by clients. A later rebalance may move it again."
		data.Button = "Move the leadership"
	}
	section := "transactions"
	if a.Name == "move-leader" {
		section = "cluster"
	}
	return &view{
		Title: data.Question, Section: section, Template: "confirm", Data: data,
		Commands: h.actionCommands(ctx, a),
	}, nil
}

// do does what was confirmed, and goes back to where it was asked for.
func (h *Handler) do(ctx context.Context, r *http.Request) (*view, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	if err := h.forms.check(sessionOf(ctx), r.PostForm.Get("token")); err != nil {
		h.cfg.Logger.Warn("console: a form without its token was refused", "from", r.RemoteAddr)
		return nil, err
	}
	a, err := readAction(r.PostForm)
	if err != nil {
		return nil, err
	}
	err = h.carryOut(ctx, a)
	fields := []any{"action", a.Name, "principal", h.cfg.Principal, "from", r.RemoteAddr}
	for _, f := range a.fields()[1:] {
		fields = append(fields, strings.ReplaceAll(f[0], "id", "transactional_id"), f[1])
	}
	if err != nil {
		h.cfg.Logger.Warn("console: action failed", append(fields, "error", err)...)
		return nil, err
	}
	h.cfg.Logger.Info("console: action done", fields...)
	return &view{Redirect: a.back()}, nil
}

func (h *Handler) carryOut(ctx context.Context, a action) error {
	var err error
	switch a.Name {
	case "abort":
		_, err = h.admin.AbortTransaction(ctx, &oncelogv1.AbortTransactionRequest{TransactionalId: a.ID, Txn: a.Txn})
	case "fence":
		// Who took over after the question was asked is not meant: it is told here, and
		// whoever comes between the two calls is not hit, for the second names the epoch.
		now, err := h.admin.DescribeTransaction(ctx, a.ID)
		if err != nil {
			return err
		}
		if uint64(now.GetEpoch()) != a.Epoch {
			return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_FENCED,
				fmt.Sprintf("epoch %d is over: the id is at epoch %d, which was not touched", a.Epoch, now.GetEpoch()))
		}
		_, err = h.admin.FenceEpoch(ctx, a.ID, uint32(a.Epoch))
		return err
	default:
		_, err = h.admin.MoveLeader(ctx, a.Shard, a.To)
	}
	return err
}
