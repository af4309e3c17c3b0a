package coordinator

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/internal/task"
)

// as is the context of a call of a principal; empty: of nobody.
func (c *cluster) as(name string) context.Context {
	if name == "" {
		return c.ctx()
	}
	return access.With(c.ctx(), access.Principal{Name: name})
}

// wantQuota checks that a refusal names the quota and when to come again.
func wantQuota(t *testing.T, err error, quota string, limit int) *apierrors.Error {
	t.Helper()
	wantCode(t, err, "QUOTA_EXCEEDED")
	e := apierrors.From(err)
	if e.Metadata[apierrors.KeyQuota] != quota || e.Metadata[apierrors.KeyLimit] != strconv.Itoa(limit) ||
		e.Metadata[apierrors.KeyPrincipal] == "" || e.RetryAfter() <= 0 || e.Class() != apierrors.Retriable {
		t.Errorf("%+v, want %s %d", e, quota, limit)
	}
	return e
}

func withQuotas(q Quotas) func(*Config) { return func(c *Config) { c.Quotas = q } }

func (c *cluster) initAs(name, id string) (*oncelogv1.InitProducerResponse, error) {
	return c.leader().txns().InitProducer(c.as(name), &oncelogv1.InitProducerRequest{TransactionalId: id})
}

// TestIDsPerPrincipal: ids that never end stop at the quota; others, and the same principal
// with the ids that it has, go on; a new leader counts alike, and a deleted id makes room.
func TestIDsPerPrincipal(t *testing.T) {
	const most = 5
	inBubble(t, 3, withQuotas(Quotas{TransactionalIDs: most}), func(t *testing.T, c *cluster) {
		for _, who := range []string{"shop", ""} {
			for i := range most {
				if _, err := c.initAs(who, fmt.Sprint(who, "-", i)); err != nil {
					t.Fatal(who, i, err)
				}
			}
			for range 2 {
				for i := range 3 {
					_, err := c.initAs(who, fmt.Sprint(who, "-more-", i))
					wantQuota(t, err, "transactional_ids", most)
				}
				if refused := c.leader().c.Stats().QuotasRefused; refused["transactional_ids"] < 3 || refused["inits_per_second"] != 0 {
					t.Errorf("counted as refused: %v", refused)
				}
				if _, err := c.initAs(who, who+"-0"); err != nil {
					t.Error("an id that it has:", err)
				}
				c.moveLeader()
			}
		}
		if _, err := c.initAs("billing", "billing"); err != nil {
			t.Error("another principal:", err)
		}
		if _, err := c.initAs("billing", "shop-1"); err != nil { // permissions are off: it takes it over
			t.Error(err)
		}
		if _, err := c.initAs("shop", "shop-new"); err != nil {
			t.Error("in the place of one that was taken over:", err)
		}
		if _, err := c.leader().txns().DeleteTransactionalId(c.ctx(), &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: "shop-2"}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.initAs("shop", "shop-newer"); err != nil {
			t.Error("in the place of one that was deleted:", err)
		}
		c.leader().check(t)
	})
}

// TestIDsThatComeAtOnce: those that are under way count.
func TestIDsThatComeAtOnce(t *testing.T) {
	const most, callers = 4, 20
	inBubble(t, 1, withQuotas(Quotas{TransactionalIDs: most}), func(t *testing.T, c *cluster) {
		leader := c.leader()
		results := make(chan error, callers)
		for i := range callers {
			go func() {
				_, err := leader.txns().InitProducer(c.as("shop"), &oncelogv1.InitProducerRequest{TransactionalId: strconv.Itoa(i)})
				results <- err
			}()
		}
		made := 0
		for range callers {
			if err := <-results; err == nil {
				made++
			} else {
				wantQuota(t, err, "transactional_ids", most)
			}
		}
		wantEqual(t, "ids", made, most)
		wantEqual(t, "under way", len(leader.c.quotas.coming), 0)
	})
}

// TestInitsOfOneID: 10,000 a second of one id get through at its rate only, cost the log no
// more than that, and hold up no other id of the same principal.
func TestInitsOfOneID(t *testing.T) {
	const rate, flood, seconds = 2, 1000, 5
	inBubble(t, 1, withQuotas(Quotas{InitsPerSecondPerID: rate}), func(t *testing.T, c *cluster) {
		leader := c.leader()
		before := leader.c.group.Status().Applied
		done := 0
		for range seconds {
			for range flood {
				_, err := c.initAs("shop", "storm")
				if err == nil {
					done++
					continue
				}
				e := wantQuota(t, err, "inits_per_second_per_id", rate)
				if e.RetryAfter() > time.Second/rate {
					t.Fatal("one who waits gets through after", e.RetryAfter())
				}
			}
			if _, err := c.initAs("shop", "quiet"); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
		}
		wantEqual(t, "done", done, burst*rate+(seconds-1)*rate)
		if entries := leader.c.group.Status().Applied - before; entries > uint64(done+seconds+10) {
			t.Errorf("%d entries of the log for %d calls", entries, done+seconds)
		}
	})
}

func TestInitsOfAPrincipal(t *testing.T) {
	const rate = 3
	inBubble(t, 1, withQuotas(Quotas{InitsPerSecond: rate}), func(t *testing.T, c *cluster) {
		for i := range burst * rate {
			id := strconv.Itoa(i) // one without an id counts as well
			if i%2 == 0 {
				id = ""
			}
			if _, err := c.initAs("shop", id); err != nil {
				t.Fatal(err)
			}
		}
		_, err := c.initAs("shop", "")
		e := wantQuota(t, err, "inits_per_second", rate)
		if _, err := c.initAs("billing", "b"); err != nil {
			t.Error("another principal:", err)
		}
		pass(e.RetryAfter())
		if _, err := c.initAs("shop", ""); err != nil {
			t.Error("when it was told to come again:", err)
		}
	})
}

func TestPartitionsOfAPrincipal(t *testing.T) {
	const rate = 2
	inBubble(t, 1, withQuotas(Quotas{PartitionsPerMinute: rate}), func(t *testing.T, c *cluster) {
		c.register(1)
		create := func(who, name string, n uint32) error {
			_, err := c.leader().catalog().CreateTopic(c.as(who), &oncelogv1.CreateTopicRequest{Name: name, Partitions: n, NoWait: true})
			return err
		}
		if err := create("shop", "a", burst*rate-1); err != nil {
			t.Fatal(err)
		}
		for range 2 { // what is refused for another reason costs nothing
			if got := apierrors.CodeOf(create("shop", "a", 1)); got != oncelogv1.ErrorCode_ERROR_CODE_TOPIC_EXISTS {
				t.Errorf("a topic that exists: %v", got)
			}
		}
		e := wantQuota(t, create("shop", "b", 2), "partitions_per_minute", rate)
		if err := create("billing", "c", 5); err != nil {
			t.Error("another principal:", err)
		}
		pass(e.RetryAfter())
		if err := create("shop", "b", 2); err != nil {
			t.Error("when it was told to come again:", err)
		}
	})
}

// TestRatesForget: names that were used long ago cost nothing.
func TestRatesForget(t *testing.T) {
	t.Parallel()
	r := newRates(10, time.Second)
	now := (&task.Runtime{}).Now()
	for i := range 100_000 {
		now = now.Add(time.Millisecond)
		if wait := r.take(strconv.Itoa(i), 1, now); wait > 0 {
			t.Fatal("the first of a name waits", wait)
		}
		if len(r.usedTo) > 2048 {
			t.Fatalf("%d names are remembered after %d", len(r.usedTo), i)
		}
	}
}
