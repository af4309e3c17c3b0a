package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/node"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newDebugCommand(a *app) *cobra.Command {
	return parent("debug", "Collect what a report of a problem needs", newDebugBundleCommand(a))
}

// Bounds of a bundle: what is in it should be enough, and fit into a mail.
const (
	bundleTransactions = 2000
	bundleTopics       = 500
	bundleGroups       = 500
)

func newDebugBundleCommand(a *app) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Write versions, settings, states, metrics and stacks of all nodes into a tar.gz",
		Long: `Bundle asks the coordinator's leader and every node, and writes one tar.gz: the
cluster and its members, topics and how far their partitions are, unfinished and
recent transactions with their events, the list of groups, and of every node its
version, settings, status, metrics and the stacks of its goroutines. What could not
be had is listed in problems.txt.

It has names in it (topics, transactional ids, groups, clients and hosts), and no
record, no token, no key and no certificate.`,
		Example: "  oncelog debug bundle --file problem.tar.gz",
		Args:    takes(0, 0),
	}
	c.Flags().StringVar(&path, "file", "", "file to write; it must not exist (default oncelog-debug-TIME.tar.gz)")
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		if path == "" {
			path = "oncelog-debug-" + s.now().UTC().Format("20060102T150405Z") + ".tar.gz"
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("the bundle cannot be written: %w", err)
		}
		zip := gzip.NewWriter(f)
		b := &bundle{session: s, out: tar.NewWriter(zip)}
		b.collect(ctx)
		err = errors.Join(b.failed, b.out.Close(), zip.Close(), f.Sync(), f.Close())
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			_ = os.Remove(path)
			return fmt.Errorf("the bundle cannot be written: %w", err)
		}
		fmt.Fprintf(s.out, "%s: %d files, %d problems on the way\n", path, b.files, len(b.problems))
		return nil
	})
}

// bundle is a bundle that is being written.
type bundle struct {
	*session
	out      *tar.Writer
	files    int
	problems []string
	failed   error // the first failure to write
}

func (b *bundle) collect(ctx context.Context) {
	view := b.clusterView(ctx)
	b.problems = append(b.problems, view.Problems...)
	b.text("made.txt", fmt.Sprintf("at %s\nby oncelog %s\nservers %s\n", b.now().UTC().Format(time.RFC3339), node.Version(), strings.Join(b.cfg.Servers, ", ")))
	b.json("cluster.json", view)
	if b.client != nil {
		b.ofCluster(ctx)
		b.ofNodes(ctx, view.Nodes)
	}
	b.text("problems.txt", strings.Join(append(b.problems, ""), "\n"))
}

// ofCluster adds what the coordinator's leader knows.
func (b *bundle) ofCluster(ctx context.Context) {
	members, err := ask(ctx, b.session, "coordinators", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListCoordinatorsResponse, error) {
		return a.ListCoordinators(ctx)
	})
	b.answer("coordinators.json", members, err)
	list := func(older int64) ([]*oncelogv1.TransactionListing, error) {
		return pages(bundleTransactions, func(size uint32, token string) ([]*oncelogv1.TransactionListing, string, error) {
			resp, err := ask(ctx, b.session, "transactions", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListTransactionsResponse, error) {
				return a.ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{OlderThanMs: older, PageSize: size, PageToken: token})
			})
			return resp.GetTransactions(), resp.GetNextPageToken(), err
		})
	}
	unfinished, err := list(1)
	b.answer("transactions-unfinished.json", &oncelogv1.ListTransactionsResponse{Transactions: unfinished}, err)
	all, err := list(0)
	b.answer("transactions.json", &oncelogv1.ListTransactionsResponse{Transactions: all}, err)
	b.events(ctx)
	groups, err := pages(bundleGroups, func(size uint32, token string) ([]*oncelogv1.GroupListing, string, error) {
		resp, err := ask(ctx, b.session, "groups", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListGroupsResponse, error) {
			return a.ListGroups(ctx, size, token)
		})
		return resp.GetGroups(), resp.GetNextPageToken(), err
	})
	b.answer("groups.json", &oncelogv1.ListGroupsResponse{Groups: groups}, err)
	topics, err := pages(bundleTopics, func(size uint32, token string) ([]*oncelogv1.Topic, string, error) {
		resp, err := ask(ctx, b.session, "topics", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListTopicsResponse, error) {
			return a.ListTopics(ctx, size, token)
		})
		return resp.GetTopics(), resp.GetNextPageToken(), err
	})
	b.answer("topics.json", &oncelogv1.ListTopicsResponse{Topics: topics}, err)
	standing := &oncelogv1.DescribePartitionsResponse{}
	for _, t := range topics {
		partitions, err := ask(ctx, b.session, "topic "+t.GetName(), func(ctx context.Context, a *client.Admin) ([]*oncelogv1.PartitionStatus, error) {
			return a.DescribePartitions(ctx, t.GetName())
		})
		if err != nil {
			b.problem(err)
			continue
		}
		standing.Partitions = append(standing.Partitions, partitions...)
	}
	b.answer("partitions.json", standing, nil)
}

// events adds what the coordinator remembers of what happened to transactions.
func (b *bundle) events(ctx context.Context) {
	ctx, cancel := b.limit(ctx)
	defer cancel()
	all := &oncelogv1.WatchTransactionsResponse{}
	err := b.client.Admin().WatchTransactions(ctx, &oncelogv1.WatchTransactionsRequest{AfterIndex: proto.Uint64(0), NoFollow: true},
		func(r *oncelogv1.WatchTransactionsResponse) error {
			all.Events = append(all.Events, r.GetEvents()...)
			all.Missed, all.Index = all.GetMissed() || r.GetMissed(), r.GetIndex()
			return nil
		})
	b.answer("transaction-events.json", all, err)
}

// ofNodes adds what every node says of itself, which all are asked at once.
func (b *bundle) ofNodes(ctx context.Context, nodes []nodeView) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	answers, errs := make([]*oncelogv1.GetDiagnosticsResponse, len(nodes)), make([]error, len(nodes))
	var asking sync.WaitGroup
	for i, n := range nodes {
		asking.Go(func() { answers[i], errs[i] = b.client.Admin().Diagnostics(ctx, n.Address) })
	}
	asking.Wait()
	for i, n := range nodes {
		dir := fmt.Sprintf("nodes/%s-%d/", n.Role, n.NodeID)
		if n.status != nil {
			b.json(dir+"status.json", n.status)
		}
		if errs[i] != nil {
			b.problem(about{fmt.Sprintf("diagnostics of %s node %s", n.Role, n.name()), errs[i]})
			continue
		}
		d := answers[i]
		var settings strings.Builder
		for _, k := range d.GetSettings() {
			fmt.Fprintf(&settings, "%s: %s\n", k.GetName(), k.GetValue())
		}
		b.text(dir+"settings.txt", settings.String())
		b.text(dir+"version.txt", fmt.Sprintf("oncelog %s\n%s\n\n%s", d.GetVersion(), d.GetPlatform(), d.GetModules()))
		b.text(dir+"goroutines.txt", d.GetGoroutines())
		b.text(dir+"metrics.txt", d.GetMetrics())
		if d.GetTruncated() {
			b.problems = append(b.problems, dir+": goroutines or metrics are cut off at their limit")
		}
	}
}

func (b *bundle) problem(err error) {
	text, _ := explain(err)
	b.problems = append(b.problems, text)
}

// answer adds an answer, or the reason why there is none.
func (b *bundle) answer(name string, v proto.Message, err error) {
	if err != nil {
		b.problem(about{name, err})
		return
	}
	b.json(name, v)
}

func (b *bundle) json(name string, v any) {
	var text strings.Builder
	if err := output.JSON(&text, v); err != nil {
		b.problem(about{name, err})
		return
	}
	b.text(name, text.String())
}

// text adds a file.
func (b *bundle) text(name, content string) {
	if b.failed != nil {
		return
	}
	b.files++
	header := &tar.Header{Name: "oncelog-debug/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: b.now().UTC().Truncate(time.Second)}
	if b.failed = b.out.WriteHeader(header); b.failed == nil {
		_, b.failed = b.out.Write([]byte(content))
	}
}
