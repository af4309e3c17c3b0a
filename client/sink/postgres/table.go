package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oncelog/oncelog/client/sink"
)

// Limits of what names may be.
const (
	// maxIdentifier is PostgreSQL's: a longer name would be cut off silently, and might
	// then be another table's.
	maxIdentifier = 63
	// maxColumns is PostgreSQL's limit on the columns of a table.
	maxColumns = 1600
)

// schemaVersion is the version of the table of positions. It is written into the
// table's comment, and a table of another version is refused.
const schemaVersion = 1

// table is the table of positions.
type table struct{ name pgx.Identifier }

func (t table) sql() string { return t.name.Sanitize() }

func comment(version int) string { return fmt.Sprintf("oncelog sink positions, version %d", version) }

// create makes the table in one transaction, so that two programs may do it at a time.
func (t table) create(ctx context.Context, db DB) error {
	return transact(ctx, db, pgx.TxOptions{}, defaultIdle, func(tx pgx.Tx) error {
		// CREATE TABLE IF NOT EXISTS fails if another one is at it; they take turns.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext('oncelog sink'))"); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", t.sql()).Scan(&there); err != nil {
			return err
		}
		if there {
			return t.check(ctx, tx)
		}
		// COLLATE "C": names are bytes.
		_, err := tx.Exec(ctx, "CREATE TABLE "+t.sql()+` (
	sink         text COLLATE "C" NOT NULL,
	topic        text COLLATE "C" NOT NULL,
	partition    integer NOT NULL,
	partition_id bigint NOT NULL,
	epoch        bigint NOT NULL,
	next_offset  bigint,
	changed_at   timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (sink, topic, partition)
) WITH (fillfactor = 50)`)
		if err != nil {
			return err
		}
		// A statement without parameters: the text is a constant of this package.
		_, err = tx.Exec(ctx, "COMMENT ON TABLE "+t.sql()+" IS '"+comment(schemaVersion)+"'")
		return err
	})
}

// check refuses a table that is missing or of another version.
func (t table) check(ctx context.Context, tx pgx.Tx) error {
	var there bool
	var said string
	err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL, coalesce(obj_description(to_regclass($1), 'pg_class'), '')", t.sql()).Scan(&there, &said)
	switch {
	case err != nil:
		return err
	case !there:
		return fmt.Errorf("postgres sink: there is no table %s: make it with Store.CreateTable", t.sql())
	case said != comment(schemaVersion):
		return fmt.Errorf("postgres sink: the comment of table %s is %q, want %q: it is not a table of positions, or of another version", t.sql(), said, comment(schemaVersion))
	}
	return nil
}

// checkName refuses names of sinks that the table cannot have.
func checkName(name string) error {
	if name == "" || len(name) > sink.MaxName || strings.ContainsRune(name, 0) {
		return fmt.Errorf("postgres sink: name of %d bytes: 1 to %d, and no zero byte", len(name), sink.MaxName)
	}
	return nil
}

func checkTable(name pgx.Identifier) error {
	if len(name) < 1 || len(name) > 2 {
		return fmt.Errorf("postgres sink: table name of %d parts: TABLE or SCHEMA, TABLE", len(name))
	}
	for _, part := range name {
		if err := checkIdentifier("table", part); err != nil {
			return err
		}
	}
	return nil
}

func checkIdentifier(what, name string) error {
	if name == "" || len(name) > maxIdentifier || strings.ContainsRune(name, 0) {
		return fmt.Errorf("postgres sink: %s name %q of %d bytes: 1 to %d, and no zero byte", what, name, len(name), maxIdentifier)
	}
	return nil
}
