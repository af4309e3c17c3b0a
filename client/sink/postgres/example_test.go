package postgres_test

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/sink"
	"github.com/oncelog/oncelog/client/sink/postgres"
)

// Orders into tables, exactly once: the positions move in the transaction of the
// handler's statements.
func ExampleNewStore() {
	run := func(ctx context.Context, c *client.Client, pool *pgxpool.Pool) error {
		store, err := postgres.NewStore(pool, func(ctx context.Context, tx pgx.Tx, records []*client.Record) error {
			for _, r := range records {
				if _, err := tx.Exec(ctx, "UPDATE customers SET orders = orders + 1 WHERE id = $1", string(r.Key)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := store.CreateTable(ctx); err != nil { // once, with the right to create tables
			return err
		}
		return sink.Run(ctx, c, "orders-to-postgres", []string{"orders"}, store)
	}
	_ = run
}

// The newest record of every key as a row: written at least once, with the same result.
func ExampleNewRows() {
	run := func(ctx context.Context, c *client.Client, pool *pgxpool.Pool) error {
		rows, err := postgres.NewRows(pool, []string{"customers"},
			[]postgres.Column{{Name: "id", Type: "text"}, {Name: "profile", Type: "jsonb NOT NULL"}},
			func(r *client.Record) ([]any, error) { return []any{string(r.Key), r.Value}, nil },
			postgres.WithKey("id"))
		if err != nil {
			return err
		}
		if err := rows.CreateTable(ctx); err != nil {
			return err
		}
		return sink.RunIdempotent(ctx, c, "customers-to-postgres", []string{"customers"}, rows)
	}
	_ = run
}
