package scale

import (
	"context"
	"fmt"
	"slices"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/bench"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// side is one of the two clusters that are compared.
type side struct {
	cfg      Config
	name     string
	c        *cluster.Cluster
	client   *client.Client
	topic    *oncelogv1.Topic
	producer *client.Producer
	records  int

	// Memory of the leading coordinator, and of a partition node on average: with
	// nothing, with the partitions, and with everything.
	empty, parted, full memory
	commits             bench.Histogram
	// rounds holds the median of each round.
	rounds []time.Duration
	sizes  Sizes
}

// memory is the live heap of nodes, in bytes.
type memory struct{ coordinator, partition float64 }

const topicName = "scale"

func newSide(ctx context.Context, cfg Config, name string) (_ *side, stop func(), err error) {
	c, stopCluster, err := cfg.startCluster(ctx)
	if err != nil {
		return nil, nil, err
	}
	cl, err := client.Dial(ctx, c.Servers(), client.WithClientID("scale"))
	if err != nil {
		stopCluster()
		return nil, nil, err
	}
	return &side{cfg: cfg, name: name, c: c, client: cl}, func() {
		_ = cl.Close()
		stopCluster()
	}, nil
}

// fill gives the cluster everything that it is to have.
func (s *side) fill(ctx context.Context) (err error) {
	s.cfg.tell("the %s cluster gets %d ids, %d open transactions, %d idle producers, %d partitions",
		s.name, s.cfg.IDs, s.cfg.Open, s.cfg.Producers, s.cfg.Partitions)
	if s.empty, err = s.memory(ctx); err != nil {
		return err
	}
	if s.topic, err = s.client.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: topicName, Partitions: uint32(s.cfg.Partitions)}); err != nil {
		return err
	}
	if s.parted, err = s.memory(ctx); err != nil {
		return err
	}
	f := newFiller(&s.cfg, s.c, s.topic)
	defer f.close()
	if err := f.fillProducers(ctx); err != nil {
		return err
	}
	// Idle producers are told apart from those of the transactions by the order.
	begin := time.Now()
	producers, err := f.fillIDs(ctx)
	if err != nil {
		return err
	}
	s.sizes = Sizes{IDs: s.cfg.IDs, Open: s.cfg.Open, Producers: s.cfg.Producers, Partitions: s.cfg.Partitions, InitPerSecond: float64(s.cfg.IDs) / time.Since(begin).Seconds()}
	if s.full, err = s.memory(ctx); err != nil {
		return err
	}
	if err := f.fillOpen(ctx, s.client.Admin(), producers); err != nil {
		return err
	}
	s.producer, err = s.client.InitTransactions(ctx, "commits")
	return err
}

// memory waits for collections of garbage and returns what is left.
func (s *side) memory(ctx context.Context) (m memory, err error) {
	leader, err := s.c.CoordinatorLeader(ctx)
	if err != nil {
		return m, err
	}
	nodes := []*cluster.Node{leader}
	for _, n := range s.c.Nodes() {
		if n.Role == cluster.Partition {
			nodes = append(nodes, n)
		}
	}
	live, err := liveHeaps(ctx, s.client.Admin(), nodes, s.cfg.Settle)
	if err != nil {
		return m, err
	}
	m.coordinator = live[0]
	for _, b := range live[1:] {
		m.partition += b / float64(len(live)-1)
	}
	return m, nil
}

// commit commits one transaction of one record, each in the next partition.
func (s *side) commit(ctx context.Context) error {
	tx, err := s.producer.Begin(ctx)
	if err != nil {
		return err
	}
	r := &client.Record{Topic: topicName, Value: []byte("scale")}
	s.records++
	if err := tx.Send(ctx, r.WithPartition(int32(s.records%s.cfg.Partitions))); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// round commits for a while.
func (s *side) round(ctx context.Context) error {
	var h bench.Histogram
	for begin, now := time.Now(), time.Now(); now.Sub(begin) < s.cfg.Duration; {
		if err := s.commit(ctx); err != nil {
			return err
		}
		end := time.Now()
		h.Record(end.Sub(now))
		now = end
	}
	s.commits.Add(&h)
	s.rounds = append(s.rounds, h.Quantile(0.5))
	return nil
}

// killLeader kills the coordinator that leads, and measures how long it takes to the
// answer of a commit that began after that, and until the killed node is back.
func (s *side) killLeader(ctx context.Context) (k Kill, err error) {
	leader, err := s.c.CoordinatorLeader(ctx)
	if err != nil {
		return k, err
	}
	if err := s.commit(ctx); err != nil {
		return k, err
	}
	begin := time.Now()
	if err := leader.Kill(); err != nil {
		return k, err
	}
	for {
		err := s.commit(ctx)
		if err == nil {
			break
		}
		// Its outcome is unknown as a rule; the next one shows that commits are answered.
		if ctx.Err() != nil {
			return k, err
		}
	}
	k.Commit = time.Since(begin).Seconds()
	begin = time.Now()
	if err := leader.Start(); err != nil {
		return k, err
	}
	if err := leader.AwaitServing(ctx); err != nil {
		return k, err
	}
	k.Restart = time.Since(begin).Seconds()
	err = awaitGroups(ctx, s.c, leader)
	k.CaughtUp = time.Since(begin).Seconds()
	return k, err
}

// awaitGroups returns when a node has applied everything that the other nodes knew to
// be committed when it began to wait.
func awaitGroups(ctx context.Context, c *cluster.Cluster, node *cluster.Node) error {
	want := map[uint64]uint64{}
	for _, n := range c.Nodes() {
		if n.Role != node.Role || n == node {
			continue
		}
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		for _, g := range st.GetGroups() {
			if slices.Contains(g.GetMembers(), node.ID) {
				want[g.GetGroupId()] = max(want[g.GetGroupId()], g.GetCommit())
			}
		}
	}
	return until(ctx, func() (bool, error) {
		st, err := node.Status(ctx)
		if err != nil {
			return false, node.Exited() // one that has just begun may not answer yet
		}
		behind := len(want)
		for _, g := range st.GetGroups() {
			if commit, ok := want[g.GetGroupId()]; ok && g.GetApplied() >= commit && g.GetLeader() != 0 {
				behind--
			}
		}
		return behind == 0, nil
	})
}

func measureState(ctx context.Context, cfg *Config) (*StateResult, error) {
	small, stop, err := newSide(ctx, cfg.small(), "small")
	if err != nil {
		return nil, err
	}
	defer stop()
	large, stop, err := newSide(ctx, *cfg, "large")
	if err != nil {
		return nil, err
	}
	defer stop()
	sides := []*side{small, large}
	for _, s := range sides {
		if err := s.fill(ctx); err != nil {
			return nil, err
		}
	}
	for round := range cfg.Rounds + 1 {
		for _, s := range sides {
			if err := s.round(ctx); err != nil {
				return nil, fmt.Errorf("commits in the %s cluster: %w", s.name, err)
			}
			if round == 0 { // its connections are made
				s.rounds, s.commits = nil, bench.Histogram{}
			} else {
				cfg.tell("round %d of %d: p50 of a commit in the %s cluster %v", round, cfg.Rounds, s.name, s.rounds[round-1])
			}
		}
	}
	r := &StateResult{
		Small: small.sizes, Large: large.sizes,
		SmallCommits: times(&small.commits), LargeCommits: times(&large.commits),
		BytesPerID:        perUnit(large.full.coordinator-large.parted.coordinator, cfg.IDs),
		BytesPerPartition: perUnit(3*(large.parted.partition-large.empty.partition), cfg.Partitions),
		BytesPerProducer:  perUnit(3*(large.full.partition-large.parted.partition), cfg.Producers),
	}
	for i := range small.rounds {
		r.Ratios = append(r.Ratios, float64(large.rounds[i])/float64(small.rounds[i]))
	}
	for _, s := range sides {
		for range cfg.Rounds {
			k, err := s.killLeader(ctx)
			if err != nil {
				return nil, fmt.Errorf("after the leader of the %s cluster was killed: %w", s.name, err)
			}
			cfg.tell("%s cluster: a commit %.2f s after the kill of the leader, which serves %.2f s after its start", s.name, k.Commit, k.Restart)
			if s == small {
				r.SmallKills = append(r.SmallKills, k)
			} else {
				r.LargeKills = append(r.LargeKills, k)
			}
		}
	}
	return r, nil
}

func perUnit(bytes float64, n int) float64 { return bytes / float64(max(n, 1)) }

func times(h *bench.Histogram) Times {
	return Times{P50: h.Quantile(0.5).Seconds() * 1000, P99: h.Quantile(0.99).Seconds() * 1000, Max: h.Max().Seconds() * 1000}
}
