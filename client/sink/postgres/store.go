package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/sink"
)

// DB is what the package needs of a database: a *pgxpool.Pool, or a *pgx.Conn if only
// one sink uses it. A connection that breaks is only replaced by a pool.
type DB interface {
	BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
}

// Handler writes what records lead to, within tx. It is called once per transaction,
// with at least one record; of every partition they come in the order of their offsets.
// It may be called again with the same records if the transaction was not committed, so
// it must do nothing but what tx can take back. Commit and Rollback of tx are refused.
type Handler func(ctx context.Context, tx pgx.Tx, records []*client.Record) error

// Store keeps the positions of sinks in a table beside what its handler writes. It
// implements sink.Store.
type Store struct {
	db      DB
	handler Handler
	table   table
	options pgx.TxOptions
	idle    time.Duration
}

// StoreOption configures NewStore.
type StoreOption func(*Store)

// WithTable names the table of positions, with or without a schema. Default
// oncelog_sink_positions, in the first schema of the search path.
func WithTable(name ...string) StoreOption {
	return func(s *Store) { s.table.name = pgx.Identifier(slices.Clone(name)) }
}

// WithTxOptions sets the isolation of the transactions. Positions are safe at every
// level; the default is the server's, as a rule read committed.
func WithTxOptions(o pgx.TxOptions) StoreOption { return func(s *Store) { s.options = o } }

// WithIdleTimeout sets after how long without a statement the server ends a transaction
// of the sink, see the package. Default 1 min; 1 s to 1 h. It should be longer than the
// handler ever pauses between two statements.
func WithIdleTimeout(d time.Duration) StoreOption { return func(s *Store) { s.idle = d } }

// NewStore returns a store whose table is to be made with CreateTable before.
func NewStore(db DB, handler Handler, opts ...StoreOption) (*Store, error) {
	s := &Store{db: db, handler: handler, table: table{name: pgx.Identifier{"oncelog_sink_positions"}}, idle: defaultIdle}
	for _, o := range opts {
		o(s)
	}
	switch {
	case db == nil:
		return nil, errors.New("postgres sink: no database")
	case handler == nil:
		return nil, errors.New("postgres sink: no handler")
	case s.idle < time.Second || s.idle > time.Hour:
		return nil, fmt.Errorf("postgres sink: idle timeout %v: 1s to 1h", s.idle)
	case s.options.AccessMode == pgx.ReadOnly:
		return nil, errors.New("postgres sink: the transactions write, so they cannot be read only")
	}
	return s, checkTable(s.table.name)
}

// CreateTable creates the table of positions unless it is there. It needs the right to
// create tables, which the sink itself does not: SELECT, INSERT and UPDATE are enough
// for that.
func (s *Store) CreateTable(ctx context.Context) error { return s.table.create(ctx, s.db) }

// Claim implements sink.Store.
func (s *Store) Claim(ctx context.Context, name string, partitions []sink.Partition) (claims []sink.Claim, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	err = transact(ctx, s.db, s.options, s.idle, func(tx pgx.Tx) error {
		if err := s.table.check(ctx, tx); err != nil {
			return err
		}
		claims, err = s.claim(ctx, tx, name, partitions)
		return err
	})
	return claims, err
}

// inOrder returns the indexes of partitions in one order for everybody: rows are locked
// in it, so that two owners do not wait for each other.
func inOrder[T any](all []T, tp func(T) client.TopicPartition) []int {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := tp(all[i]), tp(all[j])
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return order
}

func (s *Store) claim(ctx context.Context, tx pgx.Tx, name string, partitions []sink.Partition) ([]sink.Claim, error) {
	order := inOrder(partitions, func(p sink.Partition) client.TopicPartition { return p.TopicPartition })
	claims, stored := make([]sink.Claim, len(partitions)), make([]int64, len(partitions))
	batch := &pgx.Batch{}
	for _, i := range order {
		p := partitions[i]
		// A row of another life of the topic is locked and left alone: its id tells.
		batch.Queue("INSERT INTO "+s.table.sql()+" AS t (sink, topic, partition, partition_id, epoch) VALUES ($1, $2, $3, $4, 1) "+
			"ON CONFLICT (sink, topic, partition) DO UPDATE SET epoch = t.epoch + CASE WHEN t.partition_id = excluded.partition_id THEN 1 ELSE 0 END, "+
			"changed_at = now() RETURNING partition_id, epoch, next_offset",
			name, p.Topic, p.Partition, int64(p.ID)).QueryRow(func(row pgx.Row) error {
			var next *int64
			err := row.Scan(&stored[i], &claims[i].Epoch, &next)
			claims[i].Next = sink.NoPosition
			if next != nil {
				claims[i].Next = *next
			}
			return err
		})
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	for i, id := range stored {
		if id != int64(partitions[i].ID) {
			return nil, &sink.TopicChangedError{Partition: partitions[i], Stored: uint64(id)}
		}
	}
	return claims, nil
}

// Apply implements sink.Store.
func (s *Store) Apply(ctx context.Context, name string, parts []sink.Part) error {
	if err := checkName(name); err != nil {
		return err
	}
	return transact(ctx, s.db, s.options, s.idle, func(tx pgx.Tx) error {
		moved, err := s.move(ctx, tx, name, parts)
		if err != nil {
			return err
		}
		var records []*client.Record
		for i, p := range parts {
			if moved[i] {
				records = append(records, p.Records...)
			}
		}
		if len(records) == 0 {
			return nil
		}
		return s.handler(ctx, handlerTx{tx}, records)
	})
}

// move moves the positions, before anything else is done: a zombie is refused before it
// writes, and the rows stay locked until the end. It reports which parts had not been
// taken before.
func (s *Store) move(ctx context.Context, tx pgx.Tx, name string, parts []sink.Part) ([]bool, error) {
	order := inOrder(parts, func(p sink.Part) client.TopicPartition { return p.Partition.TopicPartition })
	moved := make([]bool, len(parts))
	batch := &pgx.Batch{}
	for _, i := range order {
		p := parts[i]
		var from *int64
		if p.From != sink.NoPosition {
			from = &p.From
		}
		batch.Queue("UPDATE "+s.table.sql()+" SET next_offset = $6, changed_at = now() WHERE sink = $1 AND topic = $2 AND partition = $3 "+
			"AND partition_id = $4 AND epoch = $5 AND next_offset IS NOT DISTINCT FROM $7",
			name, p.Partition.Topic, p.Partition.Partition, int64(p.Partition.ID), p.Epoch, p.To, from).Exec(func(tag tag) error {
			moved[i] = tag.RowsAffected() == 1
			return nil
		})
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	var fenced []client.TopicPartition
	for _, i := range order {
		if moved[i] {
			continue
		}
		done, err := s.isDone(ctx, tx, name, parts[i])
		if err != nil {
			return nil, err
		}
		if !done {
			fenced = append(fenced, parts[i].Partition.TopicPartition)
		}
	}
	if fenced != nil {
		return nil, &sink.FencedError{Partitions: fenced}
	}
	return moved, nil
}

// isDone reports whether an earlier attempt was committed, whose answer was lost: only
// the owner of an epoch moves a position under it.
func (s *Store) isDone(ctx context.Context, tx pgx.Tx, name string, p sink.Part) (done bool, err error) {
	err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+s.table.sql()+" WHERE sink = $1 AND topic = $2 AND partition = $3 "+
		"AND partition_id = $4 AND epoch = $5 AND next_offset = $6)",
		name, p.Partition.Topic, p.Partition.Partition, int64(p.Partition.ID), p.Epoch, p.To).Scan(&done)
	return done, err
}
