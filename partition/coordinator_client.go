package partition

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/dial"
	"github.com/oncelog/oncelog/internal/task"
)

const (
	firstRetryPause = 10 * time.Millisecond
	maxRetryPause   = 200 * time.Millisecond
)

// CoordinatorClientConfig describes a [CoordinatorClient].
type CoordinatorClientConfig struct {
	// Seeds are peer addresses of coordinator nodes; any that are right are
	// enough: heartbeats bring the others, also those that come later. Required.
	Seeds []string
	// Credentials secure the connections. Nil: none, for a trusted network.
	Credentials credentials.TransportCredentials
	// DialOptions are added to the client's own, for tests and metrics.
	DialOptions []grpc.DialOption
	// AttemptTimeout bounds one attempt at one address, in addition to what a
	// heartbeat asks to wait, so that a machine that vanished without a word
	// does not hold a call until its deadline. Default 2 s.
	AttemptTimeout time.Duration
	// Dial makes the connections, in place of gRPC with Credentials and
	// DialOptions. Nil: gRPC.
	Dial dial.Func
	// Runtime is what the client waits and tells the time by. Nil: the machine.
	Runtime *task.Runtime
}

// CoordinatorClient is a [Coordinator] over gRPC. It remembers who leads, goes
// where a NOT_LEADER answer points, tries the coordinators that it was told of and
// the seeds in turn when nobody knows,
// and repeats a call until its context ends: every call of a node can be
// repeated. It is safe for concurrent use.
type CoordinatorClient struct {
	cfg CoordinatorClientConfig

	mu     sync.Mutex
	conns  map[string]dial.Conn
	leader string // "": unknown
	// places are where coordinators are: those of the newest list that a heartbeat
	// brought, and the seeds behind them.
	places  []string
	version uint64 // of that list
	next    int    // place to try
}

var _ Coordinator = (*CoordinatorClient)(nil)

// NewCoordinatorClient returns a client that connects when it is first used.
func NewCoordinatorClient(cfg CoordinatorClientConfig) (*CoordinatorClient, error) {
	if len(cfg.Seeds) == 0 || slices.Contains(cfg.Seeds, "") {
		return nil, errors.New("partition: name at least one peer address of a coordinator, and no empty one")
	}
	cfg.Seeds = slices.Clone(cfg.Seeds)
	def(&cfg.AttemptTimeout, 2*time.Second)
	if cfg.Credentials == nil {
		cfg.Credentials = insecure.NewCredentials()
	}
	if cfg.Dial == nil {
		cfg.Dial = cfg.grpc
	}
	return &CoordinatorClient{cfg: cfg, conns: map[string]dial.Conn{}, places: cfg.Seeds}, nil
}

// Close ends all connections.
func (c *CoordinatorClient) Close() error {
	var errs []error
	for _, conn := range c.take(func(string) bool { return true }) {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// RegisterNode implements [Coordinator].
func (c *CoordinatorClient) RegisterNode(ctx context.Context, req *oncelogv1.RegisterNodeRequest) (*oncelogv1.RegisterNodeResponse, error) {
	return call(ctx, c, req, c.cfg.AttemptTimeout, oncelogv1.NodeServiceClient.RegisterNode)
}

// Heartbeat implements [Coordinator].
func (c *CoordinatorClient) Heartbeat(ctx context.Context, req *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	wait := time.Duration(req.GetWaitMs()) * time.Millisecond
	known := c.knownVersion()
	req.KnownCoordinatorsVersion = &known
	resp, err := call(ctx, c, req, c.cfg.AttemptTimeout+wait, oncelogv1.NodeServiceClient.Heartbeat)
	if err == nil {
		c.learn(resp)
	}
	return resp, err
}

func (c *CoordinatorClient) knownVersion() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// learn takes a newer list of coordinators, from a heartbeat or from the disk. The
// seeds stay: after a long absence
// they may be all that is still right.
func (c *CoordinatorClient) learn(resp *oncelogv1.HeartbeatResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if resp.GetCoordinatorsVersion() <= c.version || len(resp.GetCoordinators()) == 0 {
		return
	}
	places := make([]string, 0, len(resp.GetCoordinators())+len(c.cfg.Seeds))
	for _, n := range resp.GetCoordinators() {
		places = append(places, n.GetPeerAddress())
	}
	for _, seed := range c.cfg.Seeds {
		if !slices.Contains(places, seed) {
			places = append(places, seed)
		}
	}
	c.places, c.version = slices.DeleteFunc(places, func(p string) bool { return p == "" }), resp.GetCoordinatorsVersion()
}

// Enlist implements [Coordinator].
func (c *CoordinatorClient) Enlist(ctx context.Context, req *oncelogv1.EnlistRequest) (*oncelogv1.EnlistResponse, error) {
	return call(ctx, c, req, c.cfg.AttemptTimeout, oncelogv1.NodeServiceClient.Enlist)
}

// GiveUpDisk implements [Coordinator].
func (c *CoordinatorClient) GiveUpDisk(ctx context.Context, req *oncelogv1.GiveUpDiskRequest) (*oncelogv1.GiveUpDiskResponse, error) {
	return call(ctx, c, req, c.cfg.AttemptTimeout, oncelogv1.NodeServiceClient.GiveUpDisk)
}

// GiveUpReplica implements [Coordinator].
func (c *CoordinatorClient) GiveUpReplica(ctx context.Context, req *oncelogv1.GiveUpReplicaRequest) (*oncelogv1.GiveUpReplicaResponse, error) {
	return call(ctx, c, req, c.cfg.AttemptTimeout, oncelogv1.NodeServiceClient.GiveUpReplica)
}

// CheckProducers implements [Coordinator].
func (c *CoordinatorClient) CheckProducers(ctx context.Context, req *oncelogv1.CheckProducersRequest) (*oncelogv1.CheckProducersResponse, error) {
	return call(ctx, c, req, c.cfg.AttemptTimeout, oncelogv1.NodeServiceClient.CheckProducers)
}

// rpc is a method of the generated client.
type rpc[Req, Resp any] func(oncelogv1.NodeServiceClient, context.Context, Req, ...grpc.CallOption) (Resp, error)

// call makes one call at whoever leads.
func call[Req, Resp any](ctx context.Context, c *CoordinatorClient, req Req, timeout time.Duration, method rpc[Req, Resp]) (Resp, error) {
	pauseFor := firstRetryPause
	for {
		address, conn, err := c.target()
		var resp Resp
		if err == nil {
			attempt, cancel := c.cfg.Runtime.WithTimeout(ctx, timeout)
			resp, err = method(oncelogv1.NewNodeServiceClient(conn), attempt, req)
			cancel()
		}
		if err == nil {
			c.leads(address)
			return resp, nil
		}
		failure := apierrors.From(err)
		if ctx.Err() != nil || !c.retry(address, failure) {
			return resp, failure
		}
		if !c.cfg.Runtime.Sleep(pauseFor, ctx.Done()) {
			return resp, failure
		}
		pauseFor = min(2*pauseFor, maxRetryPause)
	}
}

// target returns a connection to the leader, or to the next one to ask.
func (c *CoordinatorClient) target() (string, dial.Conn, error) {
	address, conn := c.known()
	if conn != nil {
		return address, conn, nil
	}
	c.dropStrangers()
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.conns[address]; conn != nil {
		return address, conn, nil
	}
	conn, err := c.cfg.Dial(address)
	if err != nil {
		return address, nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, fmt.Sprintf("coordinator address %q: %v", address, err))
	}
	c.conns[address] = conn
	return address, conn, nil
}

// known returns whom to ask, and the connection to it if there is one.
func (c *CoordinatorClient) known() (string, dial.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	address := c.leader
	if address == "" {
		address = c.places[c.next%len(c.places)]
	}
	return address, c.conns[address]
}

// grpc is the Dial of a real network.
func (c *CoordinatorClientConfig) grpc(address string) (dial.Conn, error) {
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(c.Credentials),
		// A coordinator that restarts must be found again at once.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstRetryPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxRetryPause},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxRequestBytes), grpc.MaxCallSendMsgSize(MaxRequestBytes)),
	}, c.DialOptions...)
	return grpc.NewClient(address, opts...)
}

// dropStrangers closes connections that are neither to a known coordinator nor to
// the leader, so that hints do not pile them up.
func (c *CoordinatorClient) dropStrangers() {
	for _, conn := range c.take(func(address string) bool {
		return address != c.leader && !slices.Contains(c.places, address)
	}) {
		_ = conn.Close() // nothing is under way that its caller will not repeat
	}
}

// take takes the connections to some addresses out of use, for the caller to
// close: that may wait, and the lock must not be held then.
func (c *CoordinatorClient) take(which func(address string) bool) []dial.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []dial.Conn
	for _, address := range slices.Sorted(maps.Keys(c.conns)) {
		if which(address) {
			out = append(out, c.conns[address])
			delete(c.conns, address)
		}
	}
	return out
}

func (c *CoordinatorClient) leads(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = address
}

// retry says whether a call that failed at an address is to be made again, and
// decides where.
func (c *CoordinatorClient) retry(address string, failure *apierrors.Error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch failure.Code {
	case oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER:
		if hint := failure.Metadata[apierrors.KeyLeaderAddress]; hint != "" && hint != address {
			c.leader = hint
			return true
		}
	case oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, oncelogv1.ErrorCode_ERROR_CODE_DEADLINE:
	case oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT:
		return true // the same one again
	default:
		return false
	}
	if c.leader == address || c.leader == "" {
		c.leader = ""
		c.next = (c.next + 1) % len(c.places)
	}
	return true
}
