package client

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	v1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// fakePrepared is a transaction that waits for another system, guarded by the mutex of
// the fake.
type fakePrepared struct {
	ref     *v1.TxnRef // nil: there is none
	outcome v1.TransactionOutcome
	// onComplete is called as the other hooks are.
	onComplete func(node string, r *v1.CompletePreparedRequest) fate
}

func (p *fakePrepared) describe() *v1.PreparedTransaction {
	if p.ref == nil || p.outcome != v1.TransactionOutcome_TRANSACTION_OUTCOME_UNSPECIFIED {
		return nil
	}
	return &v1.PreparedTransaction{Txn: p.ref}
}

// decide decides it, or tells how it was decided before.
func (p *fakePrepared) decide(word v1.TransactionOutcome) error {
	if p.outcome == v1.TransactionOutcome_TRANSACTION_OUTCOME_UNSPECIFIED {
		p.outcome = word
	}
	if p.outcome != word {
		return apierrors.New(v1.ErrorCode_ERROR_CODE_CONFLICT, "")
	}
	return nil
}

// abortPrepared reports whether the call was about the prepared transaction.
func (f *fake) abortPrepared(r *v1.AbortTransactionRequest) (done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch p := &f.prepared; {
	case p.ref == nil || !proto.Equal(r.GetTxn(), p.ref):
		return false, nil
	case p.describe() != nil && !r.GetForce():
		return true, apierrors.New(v1.ErrorCode_ERROR_CODE_PREPARED_EXISTS, "")
	default:
		return true, p.decide(v1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED)
	}
}

// CompletePrepared carries out the word.
func (n *fakeNode) CompletePrepared(ctx context.Context, r *v1.CompletePreparedRequest) (*v1.CompletePreparedResponse, error) {
	ft := ask(n, n.f.prepared.onComplete, r)
	return unary(ctx, ft, func() (*v1.CompletePreparedResponse, error) {
		n.f.mu.Lock()
		defer n.f.mu.Unlock()
		if !proto.Equal(r.GetTxn(), n.f.prepared.ref) {
			return nil, apierrors.New(v1.ErrorCode_ERROR_CODE_INVALID_TXN, "")
		}
		word := v1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
		if r.GetCommit() {
			word = v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
		}
		return &v1.CompletePreparedResponse{Outcome: word}, n.f.prepared.decide(word)
	})
}

// wantCode fails the test unless the error has the code.
func wantCode(t *testing.T, what string, err error, want v1.ErrorCode) {
	t.Helper()
	if got := apierrors.CodeOf(err); err == nil || got != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// A prepared transaction is found by its transactional id; only force aborts it, and
// the repetition of a forced abort still names it and has its force.
func TestAdminAbortsAPreparedTransactionByForceOnly(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		a := f.dial().Admin()
		ref := &v1.TxnRef{ProducerId: 7, Epoch: 2, TxnNumber: 5}
		f.prepared.ref = ref
		_, err := a.AbortTransaction(within(t), &v1.AbortTransactionRequest{TransactionalId: "id"})
		wantCode(t, "without force", err, v1.ErrorCode_ERROR_CODE_PREPARED_EXISTS)
		calls := 0
		f.onAbort = func(_ string, r *v1.AbortTransactionRequest) fate {
			calls++
			if !r.GetForce() || !r.GetWaitApplied() || !proto.Equal(r.GetTxn(), ref) {
				t.Errorf("call %d: %v", calls, r)
			}
			return fate{swallow: calls == 1}
		}
		asked := &v1.AbortTransactionRequest{TransactionalId: "id", WaitApplied: true, Force: true}
		resp, err := a.AbortTransaction(within(t), asked)
		must(t, err)
		if calls != 2 || !proto.Equal(resp.GetTxn(), ref) || asked.GetTxn() != nil {
			t.Errorf("%d calls, %v, the caller's request is %v", calls, resp, asked)
		}
	})
}

// A word whose answer is lost is repeated, and is carried out once; the opposite is
// refused from then on.
func TestAdminCompletesAPreparedTransaction(t *testing.T) {
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprintf("commit %v", commit), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake) {
				a := f.dial().Admin()
				f.prepared.ref = &v1.TxnRef{ProducerId: 7, Epoch: 2, TxnNumber: 5}
				calls := 0
				f.prepared.onComplete = func(string, *v1.CompletePreparedRequest) fate {
					calls++
					return fate{swallow: calls == 1}
				}
				req := &v1.CompletePreparedRequest{Txn: f.prepared.ref, Commit: commit, WaitApplied: true}
				resp, err := a.CompletePrepared(within(t), req)
				must(t, err)
				if committed := resp.GetOutcome() == v1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED; committed != commit || calls != 2 {
					t.Errorf("%v after %d calls", resp, calls)
				}
				_, err = a.CompletePrepared(within(t), &v1.CompletePreparedRequest{Txn: f.prepared.ref, Commit: !commit})
				wantCode(t, "the opposite", err, v1.ErrorCode_ERROR_CODE_CONFLICT)
				_, err = a.CompletePrepared(within(t), &v1.CompletePreparedRequest{Txn: &v1.TxnRef{ProducerId: 8}, Commit: commit})
				wantCode(t, "another one", err, v1.ErrorCode_ERROR_CODE_INVALID_TXN)
			})
		})
	}
}
