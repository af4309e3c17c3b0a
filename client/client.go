package client

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/dial"
	"github.com/oncelog/oncelog/internal/task"
)

// dialLimit bounds Dial when its context has no deadline.
const dialLimit = 30 * time.Second

// Client is a connection to a cluster, for any number of producers and
// consumers. It is safe for concurrent use.
type Client struct {
	rt    *task.Runtime
	cfg   config
	log   *slog.Logger
	conns *connections
	coord *coordinator
	meta  *metadata
	links *links

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  task.Group // end with ctx

	mu     sync.Mutex
	closed bool
	parts  map[closer]uint64 // producers and consumers that are open, with the number of each
	opened uint64            // producers and consumers so far
}

// closer is a producer or consumer that ends with its client.
type closer interface{ shutdown() }

// Dial connects to a cluster of which seeds are some coordinator addresses,
// host:port. It returns when one of them has answered; without a deadline in ctx
// it gives up after 30 s. Other nodes are found through them, and coordinators that
// come later, too; the seeds are kept.
func Dial(ctx context.Context, seeds []string, opts ...Option) (*Client, error) {
	cfg := defaultConfig()
	for _, o := range opts {
		o(&cfg)
	}
	switch {
	case len(seeds) == 0:
		return nil, invalid("dial", "no seeds")
	case len(cfg.clientID) > maxNameBytes:
		return nil, invalid("dial", "client id of %d bytes: at most %d", len(cfg.clientID), maxNameBytes)
	case cfg.logger == nil:
		return nil, invalid("dial", "logger is nil")
	case cfg.requestTimeout <= 0 || cfg.backoffMin <= 0 || cfg.backoffMax < cfg.backoffMin:
		return nil, invalid("dial", "timeouts and pauses must be more than 0, the longest pause not below the first")
	}
	if cfg.token != nil {
		if err := cfg.token.check(cfg.tls != nil); err != nil {
			return nil, invalid("dial", "token: %w", err)
		}
	}
	c := &Client{
		rt: task.From(ctx), cfg: cfg, log: cfg.logger,
		conns: newConnections(&cfg, dial.From(ctx)), parts: make(map[closer]uint64),
	}
	c.ctx, c.cancel = c.rt.WithCancel(context.Background())
	c.coord = newCoordinator(c.rt, seeds)
	c.meta = newMetadata(c)
	c.links = newLinks(c)

	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = c.rt.WithTimeout(ctx, dialLimit)
		defer cancel()
	}
	if err := c.meta.fetch(ctx, nil); err != nil {
		_ = c.Close()
		return nil, wrap("dial", err)
	}
	c.spawn(c.meta.followCoordinators)
	cfg.hooks.dialed(c)
	return c, nil
}

// maxNameBytes is the longest name that the contract takes.
const maxNameBytes = 249

// ClusterID returns the id of the cluster.
func (c *Client) ClusterID() string { return c.meta.clusterID() }

// Close ends all producers and consumers of the client and its connections. Open
// transactions are left to their timeout: Close the producers first to abort
// them at once. Calls that are under way return ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	open := slices.SortedFunc(maps.Keys(c.parts), func(a, b closer) int { return cmp.Compare(c.parts[a], c.parts[b]) })
	c.mu.Unlock()

	for _, p := range open {
		p.shutdown()
	}
	c.cancel()
	err := c.conns.close()
	c.tasks.Wait(c.rt)
	c.cfg.hooks.closed(c)
	return err
}

// spawn runs f in a task that Close waits for; f must end with c.ctx. It
// reports whether the client was still open.
func (c *Client) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.tasks.Go(c.rt, f)
	return true
}

// adopt makes Close end p, too.
func (c *Client) adopt(p closer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.opened++
	c.parts[p] = c.opened
	return nil
}

func (c *Client) release(p closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.parts, p)
}

func (c *Client) isClosed() bool { return c.ctx.Err() != nil }

func (c *Client) backoff() backoff {
	return backoff{rt: c.rt, first: c.cfg.backoffMin, longest: c.cfg.backoffMax}
}

// log service of the node at an address.
func (c *Client) logService(address string) (oncelogv1.LogServiceClient, error) {
	cc, err := c.conns.get(address)
	if err != nil {
		return nil, err
	}
	return oncelogv1.NewLogServiceClient(cc), nil
}

// attemptFunc makes one attempt of a call over a connection.
type attemptFunc func(ctx context.Context, cc grpc.ClientConnInterface) error
