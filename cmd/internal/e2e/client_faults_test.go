package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/chaos/netfault"
)

// tunnel is the network of one client: everything that it sends and gets goes through.
type tunnel struct {
	*netfault.Network
	doors map[string]string // node's address to the door of it
}

func newTunnel(t *testing.T, w *world) *tunnel {
	t.Helper()
	n := &tunnel{
		Network: netfault.New(func(net.Conn, string) string { return "client" }),
		doors:   map[string]string{},
	}
	t.Cleanup(func() { _ = n.Close() })
	for _, node := range w.Nodes() {
		door, err := n.Door(node.Client, node.Client)
		if err != nil {
			t.Fatal(err)
		}
		n.doors[node.Client] = door
	}
	return n
}

func (n *tunnel) option() client.Option {
	return client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		door, ok := n.doors[address]
		if !ok {
			return nil, fmt.Errorf("no node is at %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", door)
	}))
}

// swallow lets nothing through, in either direction, and tells nobody; or everything
// again.
func (n *tunnel) swallow(yes bool) {
	n.Set(func(string, string) netfault.Rule { return netfault.Rule{Cut: yes} })
}

func everything(string, string) bool { return true }

// copier is a member of a group that runs in this process.
type copier struct {
	stop context.CancelFunc
	done chan error
}

func startCopier(t *testing.T, c *client.Client, group, id, in, out string) *copier {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	k := &copier{stop: stop, done: make(chan error, 1)}
	p, err := c.InitTransactions(withPatience(t), id, client.WithTransactionTimeout(memberSession))
	if err != nil {
		t.Fatal(err)
	}
	from, err := c.Consume(withPatience(t), group, []string{in}, client.WithMaxPollRecords(20), client.WithSessionTimeout(memberSession))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		err := client.Process(ctx, from, p, func(tx *client.Tx, b *client.Batch) error {
			for r := range b.Records() {
				if err := tx.Send(ctx, &client.Record{Topic: out, Key: r.Key, Value: r.Value}); err != nil {
					return err
				}
			}
			return nil
		}, client.WithMaxAttempts(0))
		k.done <- errors.Join(err, from.Close())
	}()
	return k
}

// leaves stops the copier, which must not take long.
func (k *copier) leaves(t *testing.T) {
	t.Helper()
	k.stop()
	select {
	case err := <-k.done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	case <-withPatience(t).Done():
		t.Fatal("it does not end")
	}
}

// One member's packets are swallowed and another one is stopped, both for longer than
// session and transaction may last, and the id of the stopped one is taken. Then the
// first one's connections are broken for one end only. The output has every record
// once, who was fenced ends by itself, and who was not goes on.
func TestClientsThatHangAndLoseTheirConnections(t *testing.T) {
	t.Parallel()
	w := sharedCluster(t)
	c := w.client(t)
	in, out, group := w.topic(t, "in", 6), w.topic(t, "out", 3), unique(t, "group")
	feed := producer(t, c, unique(t, "feed"))
	var written []string
	write := func(n int) {
		t.Helper()
		for range n {
			tx := begin(t, feed)
			for range 6 {
				v := fmt.Sprintf("v%d", len(written))
				if err := tx.Send(withPatience(t), &client.Record{Topic: in, Key: []byte(v), Value: []byte(v)}); err != nil {
					t.Fatal(err)
				}
				written = append(written, v)
			}
			commit(t, tx)
		}
	}
	moves := func(what string) {
		t.Helper()
		began := time.Now()
		write(10)
		eventually(t, what, func() error {
			if n := w.groupTotal(t, group, in, 6); n < int64(len(written)) {
				return fmt.Errorf("%d of %d records are processed", n, len(written))
			}
			return nil
		})
		t.Logf("%s: everything processed %v later", what, time.Since(began).Round(time.Millisecond))
	}
	far := newTunnel(t, w)
	a := startCopier(t, w.client(t, far.option()), group, group+".a", in, out)
	b := w.startMember(t, write, "b", group, in, out)
	moves("two members")

	write(5)
	far.swallow(true)
	b.signal(syscall.SIGSTOP)
	thief := w.client(t)
	tx := begin(t, producer(t, thief, group+".b"))
	send(t, tx, out, "stolen")
	d := startCopier(t, w.client(t), group, group+".d", in, out)
	moves("one is cut off, one is stopped")
	if err := thief.Close(); err != nil { // and says nothing of its transaction
		t.Error(err)
	}

	b.signal(syscall.SIGCONT)
	far.swallow(false)
	select {
	case err := <-b.done:
		if err == nil {
			t.Error("the member whose id was taken ended as if nothing had happened")
		}
	case <-withPatience(t).Done():
		t.Fatal("the member whose id was taken does not end")
	}
	d.leaves(t)
	for _, half := range []struct {
		name string
		do   func() int
	}{
		// That nodes are gone and the client is not told takes keepalive, 15 s, to find
		// out: TestWorkersUnderFaults of clienttest has that, by a faster clock.
		{"the client is gone, and the nodes are not told", func() int { return far.HalfOpen(everything, true) }},
		{"answers end", func() int { return far.HalfClose(everything, true) }},
		{"requests end", func() int { return far.HalfClose(everything, false) }},
	} {
		if half.do() == 0 {
			t.Errorf("%s: there is no connection", half.name)
		}
		moves(half.name)
	}
	a.leaves(t)
	abortLeft(t, w, group+".b")
	wantValues(t, "output", w.readCommitted(t, c, out), written...)
}

// abortLeft ends what a client has left open under an id.
func abortLeft(t *testing.T, w *world, id string) {
	t.Helper()
	producer(t, w.client(t), id)
}
