package client

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

var writeErrors = flag.Bool("errors-page", false, "write docs/ERRORS.md")

// ownErrors are the codes that this package finds by itself.
var ownErrors = map[string]struct{ class, text, help string }{
	"BATCH_TOO_LARGE":  {"abortable", "a record is larger than 1 MiB; refused before anything was sent", "Send smaller records."},
	"CLOSED":           {"fatal", "the client, producer or consumer was closed", "Do not use it after Close."},
	"CONTEXT_ENDED":    {"retriable", "the caller's context ended while the call was under way or being repeated", "Call again, with another context; the last answer of a server is in the text."},
	"DELIVERY_TIMEOUT": {"abortable", "a record was not acknowledged within the delivery timeout; fatal for an IdempotentProducer", "Abort the transaction and start it over; if it stays, look at `oncelog cluster status`."},
	"INVALID_ARGUMENT": {"fatal", "an argument or option cannot work; refused before anything was sent", "Correct what the text names."},
	"NO_OFFSET":        {"fatal", "the group has no committed position, and StartNone says that it must have", "Set one with `oncelog group reset-offsets`, or begin elsewhere with WithStart."},
	"OUTCOME_UNKNOWN":  {"retriable", "no answer to a commit decided it: lost, or refused for what passes", "Call Commit again on the same Tx, ask Client.Outcome, or after a crash Producer.Previous."},
	"PANICKED":         {"abortable", "the partitioner panicked within a Send, so records are missing", "Mend the partitioner; a deferred Abort ends the transaction."},
	"PREPARED_EXISTS":  {"fatal", "a transaction of the producer is prepared, so nothing else can be begun, committed or aborted", "Carry out the word of the other system with Client.CompletePrepared; after a restart InitTransactions with WithKeepPrepared."},
	"STALE_BATCH":      {"fatal", "the batch was committed before, the consumer has moved since it was polled, or an earlier batch's transaction has not ended", "Commit batches once, in the order of their Polls."},
	"STALE_MEMBER":     {"abortable", "the group has asked back a partition of the batch", "Abort; Process does, and goes on with what the consumer has now."},
	"TXN_ENDED":        {"fatal", "the transaction has ended: Commit or Abort was called before", "Begin a new one."},
	"TX_OPEN":          {"fatal", "the producer's last transaction has not ended", "Commit or Abort it first; a producer has one at a time."},
	"TX_TIMEOUT":       {"abortable", "the transaction's timeout has passed", "Abort and start over, with less in a transaction or a longer timeout."},
}

// serverSentinels and ownSentinels are the codes that errors.Is finds.
var serverSentinels = map[string]string{"FENCED": "ErrFenced", "STALE_MEMBER": "ErrStaleMember", "FENCED_INSTANCE_ID": "ErrFencedInstance", "PREPARED_EXISTS": "ErrTxPrepared"}

var ownSentinels = map[string]string{
	"STALE_MEMBER": "ErrStaleMember", "NO_OFFSET": "ErrNoOffset",
	"CLOSED": "ErrClosed", "OUTCOME_UNKNOWN": "ErrOutcomeUnknown", "TX_OPEN": "ErrTxOpen", "TX_TIMEOUT": "ErrTxTimeout", "TXN_ENDED": "ErrTxDone", "PREPARED_EXISTS": "ErrTxPrepared",
}

const errorsHead = `# Errors

Written by ` + "`go test ./client -run TestErrorsPage -errors-page`" + ` from the table in [api/errors](../api/errors): do not edit.

Every failure has a code, which is stable, and a class, which says what to do next. Text is for people and may change.

| class | what to do | in the SDK |
|---|---|---|
| retriable | the same call again, unchanged | the SDK has done so until the context ended |
| abortable | abort the transaction and start it over | ` + "`Transact` and `Process`" + ` do |
| fatal | ` + "`InitTransactions`" + ` again, or stop: repeating cannot help | the producer or consumer is finished, or the call is wrong |
| unknown outcome | the same call again: its identity makes that safe | retriable; of a commit ` + "`ErrOutcomeUnknown`" + ` |

` + "`client.ClassOf(err)`" + ` tells the class, ` + "`errors.As`" + ` with ` + "`*client.Error`" + ` the code and the details, ` + "`errors.Is`" + ` finds the sentinels.
On the wire a failure is a gRPC status with a ` + "`google.rpc.ErrorInfo`" + ` of domain ` + "`oncelog`" + `; commands print the help, and exit with 3
for what does not exist and 4 without an answer.
`

func errorsPage() string {
	var b strings.Builder
	b.WriteString(errorsHead)
	b.WriteString("\n## Of the cluster\n\n| code | class | means | what to do | gRPC |\n|---|---|---|---|---|\n")
	var codes []oncelogv1.ErrorCode
	for n := range oncelogv1.ErrorCode_name { // sorted below
		if n != 0 {
			codes = append(codes, oncelogv1.ErrorCode(n))
		}
	}
	slices.SortFunc(codes, func(x, y oncelogv1.ErrorCode) int { return cmp.Compare(apierrors.Name(x), apierrors.Name(y)) })
	for _, c := range codes {
		row := apierrors.Lookup(c)
		class := row.Class.String()
		if c == oncelogv1.ErrorCode_ERROR_CODE_CONFLICT {
			class += "; fatal if the outcome is COMMITTED or the reason FENCED"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", named(apierrors.Name(c), serverSentinels), class, row.Text, row.Help, row.GRPC)
	}
	b.WriteString("\n## Of the SDK\n\nWhat it finds by itself, in `Error.Code`.\n\n| code | class | means | what to do |\n|---|---|---|---|\n")
	own := make([]string, 0, len(ownErrors))
	for code := range ownErrors { // sorted below
		own = append(own, code)
	}
	slices.Sort(own)
	for _, code := range own {
		e := ownErrors[code]
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", named(code, ownSentinels), e.class, e.text, e.help)
	}
	b.WriteString("\n## Of sinks\n\n| error | means | what to do |\n|---|---|---|\n" +
		"| `sink.ErrFenced`, `*sink.FencedError` | another run of the sink claims, more than once, partitions that the group leaves to this one | See that all runs of a name are in one group; run it again to go on. |\n" +
		"| `*sink.TopicChangedError` | the stored position is of a topic that was deleted and created again | Delete the position, or give the sink another name. |\n" +
		"| `OFFSET_OUT_OF_RANGE` | records were removed before they were taken, or the partition has lost its end | Decide whether the result may have a hole: `sink.WithSkipRemoved` goes on. |\n")
	return b.String()
}

func named(code string, sentinels map[string]string) string {
	if s := sentinels[code]; s != "" {
		return "`" + code + "`, `" + s + "`"
	}
	return "`" + code + "`"
}

// TestErrorsPage holds docs/ERRORS.md to the tables.
func TestErrorsPage(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "docs", "ERRORS.md")
	want := errorsPage()
	if *writeErrors {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the tables say: write it with go test ./client -run TestErrorsPage -errors-page", path)
	}
}

// TestOwnErrorsAreComplete: a code of this package that is on no page is one that
// nobody can look up.
func TestOwnErrorsAreComplete(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if strings.HasPrefix(name.Name, "code") && i < len(n.Values) {
						note(found, n.Values[i])
					}
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
					note(found, n.Value)
				}
			}
			return true
		})
	}
	for code := range found {
		_, server := oncelogv1.ErrorCode_value["ERROR_CODE_"+code]
		if _, ok := ownErrors[code]; !ok && !server {
			t.Errorf("%s is not in ownErrors, and so not in docs/ERRORS.md", code)
		}
	}
	for code := range ownErrors {
		if !found[code] {
			t.Errorf("nothing returns %s any more", code)
		}
	}
}

// note takes a string literal.
func note(found map[string]bool, e ast.Expr) {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if code, err := strconv.Unquote(lit.Value); err == nil {
			found[code] = true
		}
	}
}
