package client

import (
	"context"
	"errors"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// askShard repeats a question to the leader of a shard until it is answered or
// ctx ends. It is for calls that change nothing.
func (c *Client) askShard(ctx context.Context, topic string, shard uint64,
	ask func(ctx context.Context, s oncelogv1.LogServiceClient) error) error {
	pauses := c.backoff()
	var last *apierrors.Error
	var unknown unknownSince
	for {
		switch {
		case c.isClosed():
			return ErrClosed
		case ctx.Err() != nil:
			return &endedError{ctx: ctx.Err(), last: last}
		}
		moved := false
		if address := c.meta.target(shard); address == "" {
			c.meta.refresh(topic)
		} else {
			err := c.askNode(ctx, address, ask)
			if err == nil {
				c.meta.confirm(shard, address)
				return nil
			}
			if errors.Is(err, ErrClosed) {
				return ErrClosed
			}
			if last = apierrors.From(err); !repeatable(last) && !unknown.lasts(c, last) {
				return last
			}
			moved = c.meta.lesson(shard, topic, address, last)
		}
		if moved && pauses.current == 0 {
			pauses.next() // straight to a leader just heard of, once
			continue
		}
		if pauses.atLeast(ctx, last.RetryAfter()) != nil {
			return &endedError{ctx: ctx.Err(), last: last}
		}
	}
}

// unknownSince is since when nodes say that they do not know a partition. A node from
// which its shard has moved does, and so does one that has not heard of it yet.
type unknownSince struct{ at time.Time }

// lasts reports whether e says so and may not be true.
func (u *unknownSince) lasts(c *Client, e *apierrors.Error) bool {
	if e.Code != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION {
		return false
	}
	if u.at.IsZero() {
		u.at = c.rt.Now()
	}
	return c.rt.Since(u.at) < unknownPartitionGrace
}

func (c *Client) askNode(ctx context.Context, address string, ask func(ctx context.Context, s oncelogv1.LogServiceClient) error) error {
	service, err := c.logService(address)
	if err != nil {
		return err
	}
	ctx, cancel := c.rt.WithTimeout(ctx, c.cfg.requestTimeout)
	defer cancel()
	return ask(ctx, service)
}
