package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oncelog/oncelog/client"
)

// Columns that every table of Rows has: where the record of a row is.
const (
	topicColumn     = "oncelog_topic"
	partitionColumn = "oncelog_partition"
	offsetColumn    = "oncelog_offset"
)

var placeColumns = []string{topicColumn, partitionColumn, offsetColumn}

// Column is a column of the table that rows go to.
type Column struct {
	// Name, 1 to 63 bytes, quoted by the package. Names with the prefix oncelog_ are
	// the package's.
	Name string
	// Type is SQL, such as "jsonb NOT NULL": it is not quoted, so it must not come from
	// outside of the program. Only CreateTable needs it.
	Type string
}

// ToRow returns the values of a record's columns, in their order; nil: it has no row.
type ToRow func(r *client.Record) ([]any, error)

// Rows writes one row per record, which may be written again. It implements
// sink.Writer.
type Rows struct {
	db      DB
	table   pgx.Identifier
	columns []Column
	key     []string
	toRow   ToRow
	sql     string
}

// RowsOption configures NewRows.
type RowsOption func(*Rows)

// WithKey keeps one row per key instead of one per record: that of the newest record,
// INSERT ... ON CONFLICT DO UPDATE. The key is some of the columns. A row is only
// replaced by one of a later offset of its partition, or of another partition; so
// records of one row should have the same record key, which keeps them in one
// partition. Nothing is ever deleted.
func WithKey(columns ...string) RowsOption {
	return func(r *Rows) { r.key = slices.Clone(columns) }
}

// NewRows returns a writer to a table, named with or without its schema. Besides its
// columns the table has oncelog_topic, oncelog_partition and oncelog_offset, and a
// unique index on those, or on the key: see CreateTable.
func NewRows(db DB, tableName []string, columns []Column, toRow ToRow, opts ...RowsOption) (*Rows, error) {
	r := &Rows{db: db, table: slices.Clone(tableName), columns: slices.Clone(columns), toRow: toRow}
	for _, o := range opts {
		o(r)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	r.sql = r.statement()
	return r, nil
}

func (r *Rows) check() error {
	switch {
	case r.db == nil:
		return errors.New("postgres rows: no database")
	case r.toRow == nil:
		return errors.New("postgres rows: no function for rows")
	case len(r.columns) == 0 || len(r.columns) > maxColumns-len(placeColumns):
		return fmt.Errorf("postgres rows: %d columns: 1 to %d", len(r.columns), maxColumns-len(placeColumns))
	}
	if err := checkTable(r.table); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, c := range r.columns {
		if err := checkIdentifier("column", c.Name); err != nil {
			return err
		}
		if strings.HasPrefix(c.Name, "oncelog_") || known[c.Name] {
			return fmt.Errorf("postgres rows: column %q is the package's, or there twice", c.Name)
		}
		known[c.Name] = true
	}
	for i, k := range r.key {
		if !known[k] || slices.Contains(r.key[:i], k) {
			return fmt.Errorf("postgres rows: key column %q is not one of the columns, or there twice", k)
		}
	}
	return nil
}

func quote(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = pgx.Identifier{n}.Sanitize()
	}
	return out
}

// statement returns the INSERT of one row.
func (r *Rows) statement() string {
	names := slices.Clone(placeColumns)
	for _, c := range r.columns {
		names = append(names, c.Name)
	}
	params := make([]string, len(names))
	for i := range params {
		params[i] = fmt.Sprintf("$%d", i+1)
	}
	sql := fmt.Sprintf("INSERT INTO %s AS t (%s) VALUES (%s) ON CONFLICT ",
		r.table.Sanitize(), strings.Join(quote(names), ", "), strings.Join(params, ", "))
	if len(r.key) == 0 {
		return sql + "(" + strings.Join(placeColumns, ", ") + ") DO NOTHING"
	}
	var set []string
	for _, n := range names {
		if !slices.Contains(r.key, n) {
			q := pgx.Identifier{n}.Sanitize()
			set = append(set, q+" = excluded."+q)
		}
	}
	// What is written late must not replace what came after it in its partition.
	return sql + "(" + strings.Join(quote(r.key), ", ") + ") DO UPDATE SET " + strings.Join(set, ", ") +
		" WHERE t." + topicColumn + " <> excluded." + topicColumn +
		" OR t." + partitionColumn + " <> excluded." + partitionColumn +
		" OR t." + offsetColumn + " < excluded." + offsetColumn
}

// CreateTable creates the table with its primary key unless it is there. An existing
// one is not looked at.
func (r *Rows) CreateTable(ctx context.Context) error {
	parts := []string{topicColumn + ` text COLLATE "C" NOT NULL`, partitionColumn + " integer NOT NULL", offsetColumn + " bigint NOT NULL"}
	for _, c := range r.columns {
		if c.Type == "" {
			return fmt.Errorf("postgres rows: column %q has no type", c.Name)
		}
		parts = append(parts, pgx.Identifier{c.Name}.Sanitize()+" "+c.Type)
	}
	key := placeColumns
	if len(r.key) > 0 {
		key = r.key
	}
	parts = append(parts, "PRIMARY KEY ("+strings.Join(quote(key), ", ")+")")
	return transact(ctx, r.db, pgx.TxOptions{}, defaultIdle, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext('oncelog sink'))"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+r.table.Sanitize()+" (\n\t"+strings.Join(parts, ",\n\t")+"\n)")
		return err
	})
}

// Write implements sink.Writer.
func (r *Rows) Write(ctx context.Context, records []*client.Record) error {
	batch := &pgx.Batch{}
	for _, rec := range records {
		values, err := r.toRow(rec)
		if err != nil {
			return fmt.Errorf("postgres rows: %s/%d at %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
		}
		if values == nil {
			continue
		}
		if len(values) != len(r.columns) {
			return fmt.Errorf("postgres rows: %s/%d at %d: %d values for %d columns", rec.Topic, rec.Partition, rec.Offset, len(values), len(r.columns))
		}
		batch.Queue(r.sql, append([]any{rec.Topic, rec.Partition, rec.Offset}, values...)...)
	}
	if batch.Len() == 0 {
		return nil
	}
	return transact(ctx, r.db, pgx.TxOptions{}, defaultIdle, func(tx pgx.Tx) error { return tx.SendBatch(ctx, batch).Close() })
}
