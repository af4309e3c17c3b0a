package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/sink"
	"github.com/oncelog/oncelog/client/sink/postgres"
	"github.com/oncelog/oncelog/client/sink/sinktest"
	"github.com/oncelog/oncelog/internal/pgserver"
)

// server is one database server for all tests; each has schemas of its own.
var server *pgserver.Server

// binary stands for the test binary as a test: the server ends with it.
type binary struct{ cleanups []func() }

type skipped string

func (b *binary) Helper()                      {}
func (b *binary) Cleanup(fn func())            { b.cleanups = append(b.cleanups, fn) }
func (b *binary) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (b *binary) Skipf(f string, args ...any)  { panic(skipped(fmt.Sprintf(f, args...))) }
func (b *binary) Logf(string, ...any)          {}
func (b *binary) end() {
	for i := len(b.cleanups) - 1; i >= 0; i-- {
		b.cleanups[i]()
	}
}

var whyNot string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	b := &binary{}
	defer b.end()
	func() {
		defer func() {
			if why, ok := recover().(skipped); ok {
				whyNot = string(why)
			}
		}()
		server = pgserver.Start(b)
	}()
	if code := m.Run(); code != 0 {
		return code
	}
	b.end()
	b.cleanups = nil
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var schemas atomic.Int64

// open connects to the server, with a schema for this test.
func open(t *testing.T) *pgxpool.Pool {
	t.Helper()
	if server == nil {
		t.Skip(whyNot)
	}
	name := fmt.Sprintf("test%d", schemas.Add(1))
	pool, err := pgxpool.New(t.Context(), server.URL()+"&search_path="+name+"&pool_max_conns=6")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	began := time.Now()
	for {
		_, err := pool.Exec(t.Context(), "CREATE SCHEMA "+name)
		if err == nil {
			return pool
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("the server does not answer: %v\n%s", err, server.Log())
		}
		<-time.After(20 * time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// insert is the handler of most tests.
func insert(ctx context.Context, tx pgx.Tx, records []*client.Record) error {
	for _, r := range records {
		if _, err := tx.Exec(ctx, "INSERT INTO out VALUES ($1, $2, $3, $4)", r.Topic, r.Partition, r.Offset, string(r.Value)); err != nil {
			return err
		}
	}
	return nil
}

func newStore(t *testing.T, pool *pgxpool.Pool, handler postgres.Handler, opts ...postgres.StoreOption) *postgres.Store {
	t.Helper()
	_, err := pool.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS out (topic text, partition int, at bigint, value text)")
	must(t, err)
	s, err := postgres.NewStore(pool, handler, opts...)
	must(t, err)
	must(t, s.CreateTable(t.Context()))
	return s
}

func TestStoreConforms(t *testing.T) {
	t.Parallel()
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			sinktest.TestStore(t, func(t *testing.T, h *sinktest.Handler) sinktest.Opened {
				pool := open(t)
				store := newStore(t, pool, func(ctx context.Context, tx pgx.Tx, records []*client.Record) error {
					if err := insert(ctx, tx, records); err != nil {
						return err
					}
					return h.Then()
				}, postgres.WithTxOptions(pgx.TxOptions{IsoLevel: level}))
				return sinktest.Opened{Store: store, Rows: func(ctx context.Context) ([]sinktest.Row, error) {
					rows, err := pool.Query(ctx, "SELECT topic, partition, at, value FROM out")
					if err != nil {
						return nil, err
					}
					return pgx.CollectRows(rows, pgx.RowToStructByPos[sinktest.Row])
				}}
			})
		})
	}
}

var p0 = sink.Partition{TopicPartition: client.TopicPartition{Topic: "t"}, ID: 7}

func part(from, to int64) sink.Part {
	p := sink.Part{Partition: p0, Epoch: 1, From: from, To: to}
	for o := max(from, 0); o < to; o++ {
		p.Records = append(p.Records, &client.Record{Topic: "t", Offset: o, Key: fmt.Appendf(nil, "k%d", o%2), Value: fmt.Appendf(nil, "v%d", o)})
	}
	return p
}

func claimed(t *testing.T, s *postgres.Store) {
	t.Helper()
	_, err := s.Claim(t.Context(), "s", []sink.Partition{p0})
	must(t, err)
}

func count(t *testing.T, pool *pgxpool.Pool, sql string) (n int) {
	t.Helper()
	must(t, pool.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

// A process that hangs in the middle of a transaction holds the row of its position
// locked. The server ends its session, and whoever claims goes on.
func TestAHangingHandlerDoesNotHoldItsSuccessor(t *testing.T) {
	t.Parallel()
	pool := open(t)
	hangs, wakes := make(chan struct{}), make(chan struct{})
	s := newStore(t, pool, func(ctx context.Context, tx pgx.Tx, records []*client.Record) error {
		if err := insert(ctx, tx, records); err != nil {
			return err
		}
		close(hangs)
		<-wakes
		return nil
	}, postgres.WithIdleTimeout(time.Second))
	claimed(t, s)
	result := make(chan error, 1)
	go func() { result <- s.Apply(context.Background(), "s", []sink.Part{part(sink.NoPosition, 3)}) }()
	select {
	case <-hangs:
	case err := <-result:
		t.Fatal(err)
	}
	c, err := newStore(t, pool, insert).Claim(t.Context(), "s", []sink.Partition{p0})
	must(t, err)
	if c[0].Epoch != 2 || c[0].Next != sink.NoPosition {
		t.Errorf("the successor's claim: %+v", c)
	}
	close(wakes)
	if err := <-result; !sink.IsRetriable(err) {
		t.Errorf("the session that the server ended: %v", err)
	}
	if err := s.Apply(t.Context(), "s", []sink.Part{part(sink.NoPosition, 3)}); !errors.Is(err, sink.ErrFenced) {
		t.Errorf("its repetition: %v", err)
	}
	if n := count(t, pool, "SELECT count(*) FROM out"); n != 0 {
		t.Errorf("%d rows of the one that hung", n)
	}
}

func TestTheEndOfTheTransactionIsTheSinks(t *testing.T) {
	t.Parallel()
	pool := open(t)
	for name, end := range map[string]func(tx pgx.Tx) error{
		"commit":   func(tx pgx.Tx) error { return tx.Commit(t.Context()) },
		"rollback": func(tx pgx.Tx) error { return tx.Rollback(t.Context()) },
	} {
		s := newStore(t, pool, func(_ context.Context, tx pgx.Tx, _ []*client.Record) error { return end(tx) })
		claimed(t, s)
		c, err := s.Claim(t.Context(), name, []sink.Partition{p0})
		must(t, err)
		p := part(sink.NoPosition, 1)
		p.Epoch = c[0].Epoch
		if err := s.Apply(t.Context(), name, []sink.Part{p}); err == nil || sink.IsRetriable(err) || !strings.Contains(err.Error(), "ended by the sink") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A handler that passes over the failure of a statement would have nothing committed.
func TestAFailureThatTheHandlerHidesIsAnError(t *testing.T) {
	t.Parallel()
	pool := open(t)
	s := newStore(t, pool, func(ctx context.Context, tx pgx.Tx, _ []*client.Record) error {
		_, _ = tx.Exec(ctx, "SELECT 1/0")
		return nil
	})
	claimed(t, s)
	if err := s.Apply(t.Context(), "s", []sink.Part{part(sink.NoPosition, 1)}); !errors.Is(err, pgx.ErrTxCommitRollback) || sink.IsRetriable(err) {
		t.Errorf("apply: %v", err)
	}
}

func TestAPanicOfTheHandlerLeavesNothing(t *testing.T) {
	t.Parallel()
	pool := open(t)
	s := newStore(t, pool, func(ctx context.Context, tx pgx.Tx, rs []*client.Record) error {
		if err := insert(ctx, tx, rs); err != nil {
			return err
		}
		panic("oops")
	})
	claimed(t, s)
	func() {
		defer func() { _ = recover() }()
		_ = s.Apply(t.Context(), "s", []sink.Part{part(sink.NoPosition, 1)})
	}()
	if n := count(t, pool, "SELECT count(*) FROM out"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestTheTableIsMadeAndChecked(t *testing.T) {
	t.Parallel()
	pool := open(t)
	s, err := postgres.NewStore(pool, insert, postgres.WithTable(`odd "name"`))
	must(t, err)
	if _, err := s.Claim(t.Context(), "s", []sink.Partition{p0}); err == nil || !strings.Contains(err.Error(), "Store.CreateTable") {
		t.Errorf("without a table: %v", err)
	}
	for range 2 {
		must(t, s.CreateTable(t.Context()))
	}
	claimed(t, s)
	_, err = pool.Exec(t.Context(), `COMMENT ON TABLE "odd ""name""" IS 'oncelog sink positions, version 99'`)
	must(t, err)
	if _, err := s.Claim(t.Context(), "s", []sink.Partition{p0}); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("a table of another version: %v", err)
	}
	if err := s.CreateTable(t.Context()); err == nil {
		t.Error("CreateTable took a table of another version")
	}
}

func TestWhatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	db := &pgxpool.Pool{}
	toRow := func(*client.Record) ([]any, error) { return nil, nil }
	col := []postgres.Column{{Name: "v", Type: "text"}}
	for want, err := range map[string]error{
		"no database":      second(postgres.NewStore(nil, insert)),
		"no handler":       second(postgres.NewStore(db, nil)),
		"name of 0 parts":  second(postgres.NewStore(db, insert, postgres.WithTable())),
		"of 64 bytes":      second(postgres.NewStore(db, insert, postgres.WithTable(strings.Repeat("x", 64)))),
		"of 3 parts":       second(postgres.NewStore(db, insert, postgres.WithTable("a", "b", "c"))),
		"idle timeout 1ms": second(postgres.NewStore(db, insert, postgres.WithIdleTimeout(time.Millisecond))),
		"read only":        second(postgres.NewStore(db, insert, postgres.WithTxOptions(pgx.TxOptions{AccessMode: pgx.ReadOnly}))),
		"0 columns":        second(postgres.NewRows(db, []string{"t"}, nil, toRow)),
		"1601 columns":     second(postgres.NewRows(db, []string{"t"}, make([]postgres.Column, 1601), toRow)),
		"no function":      second(postgres.NewRows(db, []string{"t"}, col, nil)),
		"of 0 bytes":       second(postgres.NewRows(db, []string{""}, col, toRow)),
		"there twice":      second(postgres.NewRows(db, []string{"t"}, append(col, col...), toRow)),
		"package's":        second(postgres.NewRows(db, []string{"t"}, []postgres.Column{{Name: "oncelog_x"}}, toRow)),
		`key column "w"`:   second(postgres.NewRows(db, []string{"t"}, col, toRow, postgres.WithKey("w"))),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestRowsMayBeWrittenAgain(t *testing.T) {
	t.Parallel()
	pool := open(t)
	rows, err := postgres.NewRows(pool, []string{"Rows"}, []postgres.Column{{Name: "va'l\"ue", Type: "text"}},
		func(r *client.Record) ([]any, error) {
			if r.Offset == 3 {
				return nil, nil // has no row
			}
			return []any{string(r.Value)}, nil
		})
	must(t, err)
	for range 2 {
		must(t, rows.CreateTable(t.Context()))
		must(t, rows.Write(t.Context(), part(0, 5).Records))
	}
	must(t, rows.Write(t.Context(), part(2, 8).Records))
	if n := count(t, pool, `SELECT count(*) FROM "Rows"`); n != 7 {
		t.Errorf("%d rows, want 7", n)
	}
}

// What is written late, by a zombie, replaces nothing that is newer.
func TestRowsWithAKeyKeepTheNewest(t *testing.T) {
	t.Parallel()
	pool := open(t)
	rows, err := postgres.NewRows(pool, []string{"newest"}, []postgres.Column{{Name: "k", Type: "text"}, {Name: "v", Type: "text"}},
		func(r *client.Record) ([]any, error) { return []any{string(r.Key), string(r.Value)}, nil }, postgres.WithKey("k"))
	must(t, err)
	must(t, rows.CreateTable(t.Context()))
	must(t, rows.Write(t.Context(), part(0, 8).Records))
	must(t, rows.Write(t.Context(), part(0, 3).Records))
	var got string
	must(t, pool.QueryRow(t.Context(), "SELECT string_agg(k || v, ' ' ORDER BY k) FROM newest").Scan(&got))
	if got != "k0v6 k1v7" {
		t.Errorf("the table has %s", got)
	}
}

func TestRowsSayWhichRecordIsBad(t *testing.T) {
	t.Parallel()
	pool := open(t)
	values := []any{"one", "two"}
	rows, err := postgres.NewRows(pool, []string{"bad"}, []postgres.Column{{Name: "v", Type: "text"}},
		func(*client.Record) ([]any, error) { return values, nil })
	must(t, err)
	if err := rows.Write(t.Context(), part(0, 1).Records); err == nil || !strings.Contains(err.Error(), "t/0 at 0: 2 values for 1 columns") {
		t.Errorf("%v", err)
	}
	values = values[:1]
	if err := rows.Write(t.Context(), part(0, 1).Records); err == nil || sink.IsRetriable(err) {
		t.Errorf("without a table: %v", err)
	}
}
