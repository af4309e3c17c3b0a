package coordinator

import (
	"bytes"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Members with different settings stay replicas of each other: a setting is
// what a leader asks for, written into the command, and never what a replica
// decides by.
func TestSettingsNeverReachTheStateMachine(t *testing.T) {
	change := func(cfg *Config) {
		cfg.DefaultTimeout = time.Duration(cfg.NodeID) * 10 * time.Second
		cfg.MaxTimeout = time.Duration(cfg.NodeID) * time.Minute
		cfg.IDExpiration = time.Duration(cfg.NodeID) * 2 * time.Minute
	}
	inBubble(t, 3, change, func(t *testing.T, c *cluster) {
		for _, id := range []string{"a", "b", "c"} {
			leader := c.leader()
			res := must(leader.txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: id}))
			wantEqual(t, "default of the leader", res.GetTimeoutMs(), int64(leader.id)*10_000)
			_, err := leader.txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{
				TransactionalId: id, TimeoutMs: int64(leader.id)*60_000 + 1,
			})
			wantCode(t, err, "INVALID_ARGUMENT")
			c.moveLeader()
		}
		// Long enough for the ids of any leader to expire, one leader or another.
		pass(8 * time.Minute)
		var first []byte
		for _, m := range c.nodes {
			c.until("the member has applied everything", func() bool {
				return m.c.group.Status().Applied == c.leader().c.group.Status().Applied
			})
			if first == nil {
				first = m.snapshot(t)
			} else if !bytes.Equal(first, m.snapshot(t)) {
				t.Errorf("member %d has another state", m.id)
			}
		}
		if _, err := c.leader().txns().DescribeTransaction(c.ctx(), &oncelogv1.DescribeTransactionRequest{TransactionalId: "a"}); err == nil {
			t.Error("an id that was idle for longer than any leader waits is still known")
		}
	})
}
