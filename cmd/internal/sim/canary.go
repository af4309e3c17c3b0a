package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	sdk "github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/internal/task"
)

// canaryLimit is how soon a reader that waits must see what is committed, when all
// is calm; canaryPause how long it has waited in vain before.
const (
	canaryLimit = 5 * time.Second
	canaryPause = 500 * time.Millisecond
)

// canary has a transaction be committed before a reader that waits at the end of
// a silent log: nothing but its marker can wake it. Where others write, too, the
// next append wakes everybody, and nobody misses a marker that does not.
func (s *simulation) canary() {
	if s.plan.Meddling.Alone {
		return // what there may be of everything may have been used up
	}
	if err := s.act("canary", setupLimit, sing); err != nil && !s.over() {
		s.complain("I11 liveness", "a reader that waits for a commit: "+err.Error())
	}
}

func sing(ctx context.Context, c *sdk.Client) error {
	const topic = "canary"
	if _, err := c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: topic, Partitions: 1, ReplicationFactor: 3}); err != nil {
		return err
	}
	in, err := c.Consume(ctx, "", []string{topic})
	if err != nil {
		return err
	}
	p, err := c.InitTransactions(ctx, topic)
	if err != nil {
		return err
	}
	return p.Transact(ctx, func(tx *sdk.Tx) error {
		if err := tx.Send(ctx, &sdk.Record{Topic: topic, Value: []byte(topic)}); err != nil {
			return err
		}
		if err := tx.Flush(ctx); err != nil {
			return err
		}
		switch seen, err := listen(ctx, in, canaryPause); {
		case err != nil:
			return err
		case seen:
			return errors.New("it was shown a record before that")
		}
		if err := tx.Commit(ctx); err != nil {
			return err
		}
		seen, err := listen(ctx, in, canaryLimit)
		if err == nil && !seen {
			err = fmt.Errorf("nothing in %v", canaryLimit)
		}
		return err
	})
}

// listen polls and reports whether there was something.
func listen(ctx context.Context, in *sdk.Consumer, limit time.Duration) (seen bool, err error) {
	bounded, cancel := task.From(ctx).WithTimeout(ctx, limit)
	defer cancel()
	_, err = in.Poll(bounded)
	if bounded.Err() != nil {
		return false, ctx.Err()
	}
	return err == nil, err
}
