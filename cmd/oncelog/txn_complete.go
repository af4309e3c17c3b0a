package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

func newTxnCompleteCommand(a *app) *cobra.Command {
	var commit, abort, wait bool
	c := &cobra.Command{
		Use:   "complete PRODUCER_ID/EPOCH/TXN_NUMBER",
		Short: "Carry out another system's word about a prepared transaction",
		Long: `Complete commits or aborts a prepared transaction as the other system says, such
as the database that takes part in the same two-phase commit: what its program
does by itself when it comes back. Look there first, and make sure that nobody can
decide otherwise there afterwards. It is for good: the same word again is harmless,
the other one is refused (CONFLICT).

Only a prepared transaction is completed; an open one is ended by its program, by
its timeout, or by 'oncelog txn abort'.`,
		Example: `  oncelog txn complete 4713/2/5 --commit
  oncelog txn complete 4713/2/5 --abort`,
		Args: takes(1, 1),
	}
	c.Flags().BoolVar(&commit, "commit", false, "the other system has committed its part")
	c.Flags().BoolVar(&abort, "abort", false, "the other system has not committed its part, and never will")
	c.Flags().BoolVar(&wait, "wait", true, "wait until every shard has applied the word")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		if commit == abort {
			return &usageError{errors.New("the word of the other system is needed: either --commit or --abort")}
		}
		txn, err := parseTxn(args[0])
		if err != nil {
			return &usageError{err}
		}
		req := &oncelogv1.CompletePreparedRequest{Txn: txn, Commit: commit, WaitApplied: wait}
		resp, err := ask(ctx, s, "transaction "+args[0], func(ctx context.Context, a *client.Admin) (*oncelogv1.CompletePreparedResponse, error) {
			return a.CompletePrepared(ctx, req)
		})
		if err != nil {
			return notPrepared(err)
		}
		return s.print(resp, func(w io.Writer) error {
			done := "aborted"
			if commit {
				done = "committed"
			}
			_, err := fmt.Fprintf(w, "%s %s\n", done, txnName(txn))
			return err
		})
	})
}

// notPrepared gives advice for people on what cannot be completed.
func notPrepared(err error) error {
	switch apierrors.CodeOf(err) {
	case oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER,
		oncelogv1.ErrorCode_ERROR_CODE_FENCED, oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN:
		return &helpError{err, "`oncelog txn list --state prepared` shows what can be completed, `oncelog txn outcome` how another one ended."}
	case oncelogv1.ErrorCode_ERROR_CODE_CONFLICT:
		return &helpError{err, "It stays as it was decided; `oncelog txn describe --producer-id` shows when and why. What the other system did must be mended there."}
	default:
		return err
	}
}

// preparedExists gives advice for people on a transaction that is prepared.
func preparedExists(err error) error {
	if apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_PREPARED_EXISTS {
		return err
	}
	name := apierrors.From(err).Metadata[apierrors.KeyTxn]
	if name == "" {
		name = "PRODUCER_ID/EPOCH/TXN_NUMBER"
	}
	return &helpError{err, "Find its word in the other system, then: `oncelog txn complete " + name +
		"` with --commit or --abort. If there is none any more: `oncelog txn abort --force`."}
}
