package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/lag"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// doctor looks at a cluster.
type doctor struct {
	*session
	view      *doctorView
	apps      []client.Application
	olderThan time.Duration
	limit     int
}

// What counts as too much.
const (
	// recent is how far back outcomes count, of the 16 that are remembered per id.
	recent = time.Hour
	// duel is how many of them tell of more than a restart in the middle of a
	// transaction, or of one bad moment.
	duel = 2
	// longTimeout is how long readers may have to wait for who has died.
	longTimeout = 5 * time.Minute
)

func (d *doctor) find(s client.Severity, code, subject, breaks, why, mend string) {
	d.view.Findings = append(d.view.Findings, client.Finding{Severity: s, Code: code, Subject: subject, Breaks: breaks, Why: why, Mend: mend})
}

func (d *doctor) examine(ctx context.Context) error {
	err := errors.Join(d.transactions(ctx), d.groups(ctx), d.topics(ctx))
	if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_AUTHORIZATION_FAILED {
		return &helpError{err, doctorRights}
	}
	if err == nil && d.view.Examined.TransactionalIDs+d.view.Examined.Groups+d.view.Examined.Partitions == 0 {
		d.note("there was nothing to look at: the cluster is empty, or its rules show nothing to " + d.principal())
	}
	return err
}

// doctorRights is what doctor has to be allowed.
const doctorRights = "Doctor has to see everything: `oncelog acl add --principal NAME --operation Describe --transactional-id '*'`, and the same " +
	"with --group '*' and with --topic '*'."

func (d *doctor) transactions(ctx context.Context) error {
	ids, err := pages(d.limit, func(size uint32, token string) ([]*oncelogv1.TransactionListing, string, error) {
		resp, err := ask(ctx, d.session, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListTransactionsResponse, error) {
			return a.ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{PageSize: size, PageToken: token})
		})
		return resp.GetTransactions(), resp.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	d.view.Examined.TransactionalIDs = len(ids)
	for _, l := range ids {
		d.listed(l)
		described, err := ask(ctx, d.session, "transactional id "+l.GetTransactionalId(), func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeTransactionResponse, error) {
			return a.DescribeTransaction(ctx, l.GetTransactionalId())
		})
		switch {
		case apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER: // deleted meanwhile
		case err != nil:
			return err
		default:
			d.described(described)
		}
	}
	d.compare(ids)
	return nil
}

// idSubject names a transactional id, whatever is in it.
func idSubject(id string) string { return "transactional id " + output.Printable(id) }

// listed judges the transaction that an id has now.
func (d *doctor) listed(l *oncelogv1.TransactionListing) {
	age := time.Duration(l.GetAgeMs()) * time.Millisecond
	if age < d.olderThan {
		return
	}
	what := idSubject(l.GetTransactionalId())
	if l.GetState() == oncelogv1.TransactionState_TRANSACTION_STATE_ONGOING {
		d.find(client.Warning, "OPEN_TRANSACTION", what,
			"read_committed readers of its partitions see nothing that was written after its first record.",
			fmt.Sprintf("Transaction %s of client %s has been open for %s.", txnName(l.GetTxn()), output.Printable(l.GetClientId()), output.Millis(l.GetAgeMs())),
			fmt.Sprintf("Look at that client; `oncelog txn abort %s` ends the transaction, which is always safe for the data.", output.Printable(l.GetTransactionalId())))
		return
	}
	d.find(client.Warning, "NOT_APPLIED", what,
		"Readers of its partitions wait although the transaction was decided.",
		fmt.Sprintf("Transaction %s was not applied by every shard within %s.", txnName(l.GetTxn()), output.Millis(l.GetAgeMs())),
		"`oncelog cluster status` shows shards without a leader; it is applied as soon as they have one.")
}

// described judges how an id is used.
func (d *doctor) described(t *oncelogv1.DescribeTransactionResponse) {
	fenced, timedOut := 0, 0
	for _, o := range t.GetOutcomes() {
		if d.now().Sub(time.UnixMilli(o.GetDecidedAtMs())) > recent {
			continue
		}
		switch o.GetReason() {
		case oncelogv1.AbortReason_ABORT_REASON_FENCED:
			fenced++
		case oncelogv1.AbortReason_ABORT_REASON_TIMEOUT:
			timedOut++
		default:
		}
	}
	what := idSubject(t.GetTransactionalId())
	if fenced >= duel {
		d.find(client.Broken, "DUEL", what,
			"Producers take the id from each other in turns; what each has under way is aborted.",
			fmt.Sprintf("%d transactions of the last hour ended because a newer producer took over, and the epoch is %d.", fenced, t.GetEpoch()),
			"Give every running instance an id of its own that stays over restarts.")
	}
	if timedOut >= duel {
		d.find(client.Warning, "TIMED_OUT", what,
			"The work of these transactions was thrown away and is done again.",
			fmt.Sprintf("%d transactions of the last hour were aborted by their timeout of %s.", timedOut, output.Millis(t.GetTimeoutMs())),
			"Have smaller transactions, or a longer transaction timeout.")
	}
	if timeout := time.Duration(t.GetTimeoutMs()) * time.Millisecond; timeout > longTimeout {
		d.find(client.Notice, "LONG_TRANSACTION_TIMEOUT", what,
			fmt.Sprintf("When its producer dies for good in a transaction, readers wait up to %s.", output.Millis(t.GetTimeoutMs())),
			"read_committed shows nothing behind an open transaction.",
			"Have smaller transactions and a shorter timeout.")
	}
	for _, p := range d.producersOf(t.GetTransactionalId()) {
		want := p.TransactionTimeout
		if want == 0 {
			want = time.Minute // the client's default
		}
		if got := time.Duration(t.GetTimeoutMs()) * time.Millisecond; got != want {
			d.find(client.Warning, "OTHER_TIMEOUT", what,
				"What the description promises about timeouts does not hold.",
				fmt.Sprintf("Producer %s is described with a transaction timeout of %s, and the cluster was asked for %s.", p.Name, output.Duration(want), output.Duration(got)),
				"Correct the description, or the program.")
		}
	}
}

// pattern matches the ids that a description stands for.
func pattern(described string) *regexp.Regexp {
	text := regexp.QuoteMeta(described)
	for _, place := range []string{"{instance}", "{random}"} {
		text = strings.ReplaceAll(text, regexp.QuoteMeta(place), ".+")
	}
	return regexp.MustCompile("^(?s:" + text + ")$")
}

// producersOf returns the described producers whose id this may be.
func (d *doctor) producersOf(id string) (out []client.AppProducer) {
	for _, app := range d.apps {
		for _, p := range app.Producers {
			if p.TransactionalID != "" && pattern(p.TransactionalID).MatchString(id) {
				out = append(out, p)
			}
		}
	}
	return out
}

// compare looks for as many ids as the descriptions promise.
func (d *doctor) compare(ids []*oncelogv1.TransactionListing) {
	if d.limit > 0 && len(ids) >= d.limit {
		return // there may be more
	}
	for _, app := range d.apps {
		for _, p := range app.Producers {
			if p.TransactionalID == "" {
				continue
			}
			count, match := 0, pattern(p.TransactionalID)
			for _, l := range ids {
				if match.MatchString(l.GetTransactionalId()) {
					count++
				}
			}
			if want := max(app.Instances, 1); strings.Contains(p.TransactionalID, "{instance}") && count > 0 && count < want {
				d.find(client.Warning, "FEWER_IDS", "producer "+p.Name,
					"If all instances run, some of them share an id, and fence each other.",
					fmt.Sprintf("%d instances are described, and the cluster knows %s like %s.", want, counted(count, "id"), p.TransactionalID),
					"See that what stands for {instance} is different in each.")
			} else if count == 0 {
				d.find(client.Notice, "NOT_SEEN", "producer "+p.Name,
					"Nothing could be compared.",
					fmt.Sprintf("The cluster knows no transactional id like %s.", p.TransactionalID),
					"Start the program, or correct the description.")
			}
		}
	}
}

func (d *doctor) groups(ctx context.Context) error {
	all, err := pages(d.limit, func(size uint32, token string) ([]*oncelogv1.GroupListing, string, error) {
		resp, err := ask(ctx, d.session, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListGroupsResponse, error) {
			return a.ListGroups(ctx, size, token)
		})
		return resp.GetGroups(), resp.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	d.view.Examined.Groups = len(all)
	for _, l := range all {
		g, err := ask(ctx, d.session, "group "+l.GetGroupId(), func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeGroupResponse, error) {
			return a.DescribeGroup(ctx, l.GetGroupId())
		})
		switch {
		case apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_GROUP: // deleted meanwhile
		case err != nil:
			return err
		default:
			d.group(g)
		}
	}
	return nil
}

// group judges the positions of a group. A group that commits in transactions looks
// like one that commits beside them.
func (d *doctor) group(g *oncelogv1.DescribeGroupResponse) {
	var without []string
	owned := 0
	for _, p := range g.GetPartitions() {
		if p.GetMemberId() == "" {
			continue
		}
		owned++
		if p.GetCommitted().Offset == nil {
			ref := p.GetCommitted().GetPartition()
			without = append(without, fmt.Sprintf("%s/%d", ref.GetTopic(), ref.GetPartition()))
		}
	}
	if len(without) > 0 {
		d.find(client.Notice, "NEVER_COMMITTED", "group "+output.Printable(g.GetGroupId()),
			"Whoever owns these partitions next begins where its start option says: at the first record by default.",
			fmt.Sprintf("%d of %d owned partitions have no position: %s.", len(without), owned, shorten(without)),
			"Nothing is wrong if nothing was written there, or if the positions are kept elsewhere; else have the consumer commit.")
	}
}

// shorten names some of a list.
func shorten(names []string) string {
	const some = 5
	if len(names) <= some {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:some], ", "), len(names)-some)
}

func (d *doctor) topics(ctx context.Context) error {
	topics, err := pages(d.limit, func(size uint32, token string) ([]*oncelogv1.Topic, string, error) {
		resp, err := ask(ctx, d.session, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListTopicsResponse, error) {
			return a.ListTopics(ctx, size, token)
		})
		return resp.GetTopics(), resp.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	for _, t := range topics {
		parts, err := ask(ctx, d.session, "topic "+t.GetName(), func(ctx context.Context, a *client.Admin) ([]*oncelogv1.PartitionStatus, error) {
			return a.DescribePartitions(ctx, t.GetName())
		})
		if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		d.view.Examined.Partitions += len(parts)
		for _, p := range parts {
			d.partition(p)
		}
	}
	return nil
}

func (d *doctor) partition(p *oncelogv1.PartitionStatus) {
	waited := d.now().Sub(time.UnixMilli(p.GetBlockedSinceMs()))
	if p.GetBlockedBy() == nil || waited < d.olderThan {
		return
	}
	d.find(client.Warning, "BLOCKED_PARTITION", fmt.Sprintf("partition %s/%d", p.GetPartition().GetTopic(), p.GetPartition().GetPartition()),
		fmt.Sprintf("read_committed readers do not see %d durable offsets.", lag.Above(p.GetAppliedEnd(), p.GetStableEnd())),
		fmt.Sprintf("Transaction %s has been open there for %s.", txnName(p.GetBlockedBy()), output.Duration(waited)),
		fmt.Sprintf("`oncelog txn describe --producer-id %d` tells whose it is.", p.GetBlockedBy().GetProducerId()))
}
