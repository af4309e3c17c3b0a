package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/sink"
	"github.com/oncelog/oncelog/client/sink/postgres"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
	"github.com/oncelog/oncelog/internal/pgserver"
)

// sinkVariable makes the test binary a sink: servers, topic and database, with bars
// between them.
const sinkVariable = "E2E_SINK"

// runSink takes a topic into a database in both ways until it is told to stop: into
// tables that tell how often each record came, and into rows with a key.
func runSink(job string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // the test has ended, or was killed
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(2)
	}()
	f := strings.Split(job, "|")
	c, err := client.Dial(ctx, strings.Split(f[0], ","))
	if err != nil {
		return err
	}
	defer c.Close()
	pool, err := pgxpool.New(ctx, f[2])
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := postgres.NewStore(pool, count, postgres.WithIdleTimeout(2*time.Second))
	if err != nil {
		return err
	}
	rows, err := newRows(pool)
	if err != nil {
		return err
	}
	opts := []sink.Option{
		sink.WithConsumer(client.WithMaxPollRecords(20), client.WithSessionTimeout(memberSession)),
		sink.WithAttemptTimeout(5 * time.Second), sink.WithRetryBackoff(20*time.Millisecond, 200*time.Millisecond),
	}
	results := make(chan error, 2)
	go func() { results <- sink.Run(ctx, c, "counted", []string{f[1]}, store, opts...) }()
	go func() { results <- sink.RunIdempotent(ctx, c, "kept", []string{f[1]}, rows, opts...) }()
	err = <-results
	failed := ctx.Err() == nil
	stop()
	if other := <-results; err == nil || !failed {
		err = other
	}
	if failed {
		return err
	}
	return nil
}

// count is a handler that does more each time that it is run: nothing but the
// transaction keeps it from doing so twice.
func count(ctx context.Context, tx pgx.Tx, records []*client.Record) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"ledger"}, []string{"partition", "at", "value"},
		pgx.CopyFromSlice(len(records), func(i int) ([]any, error) {
			return []any{records[i].Partition, records[i].Offset, string(records[i].Value)}, nil
		}))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE total SET n = n + $1", len(records))
	return err
}

func newRows(db postgres.DB) (*postgres.Rows, error) {
	return postgres.NewRows(db, []string{"kept"}, []postgres.Column{{Name: "value", Type: "text NOT NULL"}},
		func(r *client.Record) ([]any, error) { return []any{string(r.Value)}, nil })
}

// sinkProcess is a sink in a process of its own.
type sinkProcess struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan error
}

func startSink(t *testing.T, w *world, topic, database string) *sinkProcess {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &sinkProcess{t: t, cmd: exec.Command(binary), done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), sinkVariable+"="+strings.Join([]string{strings.Join(w.Servers(), ","), topic, database}, "|"))
	p.cmd.Stderr = os.Stderr
	if _, err := p.cmd.StdinPipe(); err != nil { // is closed when this process ends
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	go func() { p.done <- p.cmd.Wait() }()
	return p
}

func (p *sinkProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *sinkProcess) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("a sink has ended: %v", err)
	}
}

// fetchColumn reads one column of text, again and again until the database answers.
func fetchColumn(t *testing.T, pool *pgxpool.Pool, sql string) (values []string) {
	t.Helper()
	eventually(t, "the database answers", func() error {
		rows, err := pool.Query(t.Context(), sql)
		if err != nil {
			return err
		}
		values, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return values
}

// Sinks, database and nodes are killed with SIGKILL while a producer goes on writing,
// and a sink is stopped for longer than its session: both recipes have every committed
// record once.
func TestSinksUnderKill(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills a cluster and a database for a quarter of a minute")
	}
	db := pgserver.Start(t)
	w := ownCluster(t, cluster.Config{})
	c := w.client(t)
	topic := w.topic(t, "in", 4)
	pool, err := pgxpool.New(t.Context(), db.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	eventually(t, "the tables are made", func() error {
		_, err := pool.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS ledger (partition int, at bigint, value text); "+
			"CREATE TABLE IF NOT EXISTS total (n bigint); INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT FROM total)")
		return err
	})
	store, err := postgres.NewStore(pool, count)
	rows, err2 := newRows(pool)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.CreateTable(t.Context()), rows.CreateTable(t.Context())); err != nil {
		t.Fatal(err)
	}
	feed := startFeed(t, c, topic)
	sinks := []*sinkProcess{startSink(t, w, topic, db.URL()), startSink(t, w, topic, db.URL())}
	// goesOn waits until there is something to do after what has happened.
	goesOn := func(what string) {
		t.Helper()
		before := len(feed.so())
		eventually(t, what+": the feed goes on", func() error {
			if n := len(feed.so()); n < before+50 {
				return fmt.Errorf("%d records", n)
			}
			return nil
		})
	}
	allTaken := func(what string) {
		t.Helper()
		so, began := feed.so(), time.Now()
		n := len(so)
		eventually(t, what+": all is taken", func() error {
			var counted, kept int
			err := pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM ledger WHERE value = ANY($1)), "+
				"(SELECT count(*) FROM kept WHERE value = ANY($1))", so).Scan(&counted, &kept)
			if err == nil && (counted != n || kept != n) {
				err = fmt.Errorf("%d and %d of %d records", counted, kept, n)
			}
			return err
		})
		t.Logf("%s: %d records, taken %v later", what, n, time.Since(began).Round(time.Millisecond))
	}
	taken := func(what string) {
		t.Helper()
		goesOn(what)
		allTaken(what)
	}
	taken("two sinks")
	for round := range 2 {
		sinks[round].kill()
		sinks[round] = startSink(t, w, topic, db.URL())
		taken("a sink was killed")
		db.Kill()
		db.Restart()
		taken("the database was killed")
		node, err := w.CoordinatorLeader(withPatience(t))
		if round == 1 {
			node, err = w.ShardLeader(withPatience(t), w.shards(t)[0])
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := node.Kill(); err != nil {
			t.Fatal(err)
		}
		taken("a node was killed")
		w.restart(t, node)
	}
	sinks[0].signal(syscall.SIGSTOP)
	taken("a sink is stopped")
	sinks[0].signal(syscall.SIGCONT)
	taken("it goes on")
	want := feed.stop()
	allTaken("the end")
	for _, p := range sinks {
		p.signal(syscall.SIGTERM)
		if err := <-p.done; err != nil {
			t.Errorf("a sink ended: %v", err)
		}
	}
	wantValues(t, "ledger", fetchColumn(t, pool, "SELECT value FROM ledger"), want...)
	wantValues(t, "kept", fetchColumn(t, pool, "SELECT value FROM kept"), want...)
	if total := fetchColumn(t, pool, "SELECT n::text FROM total"); !slices.Equal(total, []string{fmt.Sprint(len(want))}) {
		t.Errorf("total %v, want %d", total, len(want))
	}
}
