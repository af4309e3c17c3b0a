package coordinator

import (
	"context"
	"strconv"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/txn"
)

// Paces of marker delivery.
const (
	// markerBatch bounds the markers of one request.
	markerBatch = 2000
	// markerTimeout bounds one request; an unreachable shard is tried again.
	markerTimeout = 2 * time.Second
	// markerRetryMin and markerRetryMax bound the pause after a failed request.
	markerRetryMin = 20 * time.Millisecond
	markerRetryMax = time.Second
)

// markerSender delivers decisions to shards for one term of office. One
// request per shard is under way at a time; what is decided meanwhile goes into
// the next one. All of its memory is about pace: what is owed is in the state.
type markerSender struct {
	*Coordinator
	shards map[uint64]*delivery
	// answers carries finished requests to the loop, logged those that were
	// acknowledged in the log.
	answers chan answer
	logged  chan loggedAcks
	// acks waits to be logged; logging says that a proposal is under way.
	acks    []txn.MarkerAck
	acksAt  time.Time
	logging bool
}

// delivery is the standing of one shard.
type delivery struct {
	busy bool
	// sent is the highest decision that was answered and whose
	// acknowledgement is on its way into the log: not sent again meanwhile.
	sent    uint64
	pause   time.Duration
	retryAt time.Time
}

// answer is what became of one request.
type answer struct {
	shard   uint64
	through uint64
	acks    []txn.MarkerAck
	err     error
}

// loggedAcks is what became of one proposal of acknowledgements.
type loggedAcks struct {
	acks []txn.MarkerAck
	err  error
}

func newMarkerSender(c *Coordinator) *markerSender {
	return &markerSender{
		Coordinator: c,
		shards:      map[uint64]*delivery{},
		answers:     make(chan answer),
		logged:      make(chan loggedAcks),
	}
}

func (s *markerSender) run(ctx context.Context) {
	underWay := 0
	for {
		applied, moved := s.applied.next(), s.registry.watch()
		now := s.clock.Now()
		if ctx.Err() == nil {
			underWay += s.sendOwed(ctx, now)
			underWay += s.logAcks(ctx, now)
		} else if underWay == 0 {
			return
		}
		if ctx.Err() != nil {
			applied, moved = nil, nil
		}
		timer, release := s.clock.After(s.nextWake(now))
		select {
		case <-applied:
		case <-moved:
			s.forgive()
		case <-timer:
		case a := <-s.answers:
			underWay--
			s.answered(ctx, a)
		case l := <-s.logged:
			underWay--
			s.wasLogged(l)
		case <-s.ended(ctx):
		}
		release()
	}
}

// ended is ctx.Done until the end was noticed, so that the loop does not spin
// while it waits for the last requests.
func (s *markerSender) ended(ctx context.Context) <-chan struct{} {
	if ctx.Err() != nil {
		return nil
	}
	return ctx.Done()
}

// sendOwed starts a request for every idle shard that is owed markers.
func (s *markerSender) sendOwed(ctx context.Context, now time.Time) (started int) {
	for _, b := range s.collect(now) {
		d := s.shards[b.shard]
		address, ok := s.leaderAddress(b.shard)
		if !ok {
			s.backOff(d, now)
			continue
		}
		d.busy = true
		started++
		go func() { s.answers <- s.deliver(ctx, address, b) }()
	}
	return started
}

// batch is what one request carries.
type batch struct {
	shard   uint64
	markers []txn.Marker
}

// collect takes what is owed to idle shards and not on its way into the log.
func (s *markerSender) collect(now time.Time) []batch {
	var batches []batch
	s.state.read(func() {
		for _, shard := range s.state.txns.OwedShards() {
			d := s.shards[shard]
			if d == nil {
				d = &delivery{}
				s.shards[shard] = d
			}
			if d.busy || now.Before(d.retryAt) {
				continue
			}
			b := batch{shard: shard}
			for m := range s.state.txns.Owed(shard) {
				if m.Decision <= d.sent {
					continue
				}
				if b.markers = append(b.markers, m); len(b.markers) == markerBatch {
					break
				}
			}
			if len(b.markers) > 0 {
				batches = append(batches, b)
			}
		}
	})
	return batches
}

func (s *markerSender) leaderAddress(shard uint64) (string, bool) {
	node := s.registry.leader(shard).node
	if node == 0 {
		return "", false
	}
	var address string
	s.state.read(func() {
		if n, ok := s.state.catalog.Node(node); ok {
			address = n.PeerAddress
		}
	})
	return address, address != ""
}

// deliver sends one request and waits for its answer.
func (s *markerSender) deliver(ctx context.Context, address string, b batch) answer {
	a := answer{shard: b.shard, through: b.markers[len(b.markers)-1].Decision}
	ctx, cancel := context.WithTimeout(ctx, markerTimeout)
	defer cancel()
	client, err := s.peers.shard(address)
	if err != nil {
		a.err = err
		return a
	}
	request := &oncelogv1.ShardMarkers{ShardId: b.shard, Markers: make([]*oncelogv1.Marker, 0, len(b.markers))}
	for _, m := range b.markers {
		request.Markers = append(request.Markers, markerProto(m))
	}
	res, err := client.WriteMarkers(ctx, &oncelogv1.WriteMarkersRequest{Shards: []*oncelogv1.ShardMarkers{request}})
	switch {
	case err != nil:
		a.err = err
	case len(res.GetShards()) != 1:
		a.err = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "a node answered for another number of shards")
	case res.GetShards()[0].GetError() != nil:
		a.err = apierrors.FromProto(res.GetShards()[0].GetError())
	case len(res.GetShards()[0].GetResults()) != len(b.markers):
		a.err = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "a node answered for another number of markers")
	default:
		for i, r := range res.GetShards()[0].GetResults() {
			a.acks = append(a.acks, txn.MarkerAck{Ref: b.markers[i].Ref, Shard: b.shard, Answer: markerAnswer(r)})
		}
	}
	return a
}

// answered takes the result of one request.
func (s *markerSender) answered(ctx context.Context, a answer) {
	d := s.shards[a.shard]
	d.busy = false
	if a.err != nil {
		s.refused(ctx, d, a)
		return
	}
	d.pause = 0
	d.sent = a.through
	if len(s.acks) == 0 {
		s.acksAt = s.clock.Now().Add(s.cfg.AckDelay)
	}
	for _, ack := range a.acks {
		if ack.Answer == txn.MarkerMissingData || ack.Answer == txn.MarkerConflict {
			// Data that was acknowledged is not there, or was discarded: people
			// must look at this.
			s.log.Error("a shard could not apply a decision", "shard", ack.Shard, "answer", ack.Answer.String(),
				"producer_id", ack.Ref.ProducerID, "epoch", ack.Ref.Epoch, "txn_number", ack.Ref.Number)
		}
	}
	s.acks = append(s.acks, a.acks...)
}

func (s *markerSender) refused(ctx context.Context, d *delivery, a answer) {
	failure := apierrors.From(a.err)
	if failure.Code == oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
		node, _ := strconv.ParseUint(failure.Metadata[apierrors.KeyLeaderNode], 10, 64)
		term, _ := strconv.ParseUint(failure.Metadata[apierrors.KeyTerm], 10, 64)
		s.registry.hint(a.shard, node, term)
	}
	s.backOff(d, s.clock.Now())
	if ctx.Err() == nil {
		s.log.Debug("delivering markers failed; trying again", "shard", a.shard, "error", a.err, "pause", d.pause)
	}
}

func (s *markerSender) backOff(d *delivery, now time.Time) {
	d.pause = min(max(2*d.pause, markerRetryMin), markerRetryMax)
	d.retryAt = now.Add(d.pause)
}

// forgive ends the pauses when news of a shard's leader has come.
func (s *markerSender) forgive() {
	for _, d := range s.shards {
		d.retryAt = time.Time{}
	}
}

// logAcks proposes the gathered acknowledgements. They may wait a little for
// company, unless a caller waits for them.
func (s *markerSender) logAcks(ctx context.Context, now time.Time) (started int) {
	if s.logging || len(s.acks) == 0 || now.Before(s.acksAt) && s.wanting.Load() == 0 {
		return 0
	}
	acks := s.acks[:min(len(s.acks), txn.MaxItems)]
	s.acks = append([]txn.MarkerAck(nil), s.acks[len(acks):]...)
	s.logging = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, dutyTimeout)
		defer cancel()
		_, err := proposeTxn[txn.MarkersAppliedResult](ctx, s.Coordinator, txn.MarkersApplied{Items: acks})
		s.logged <- loggedAcks{acks: acks, err: err}
	}()
	return 1
}

// wasLogged: acknowledgements that did not make it are asked for again by
// sending their markers again, which is harmless.
func (s *markerSender) wasLogged(l loggedAcks) {
	s.logging = false
	if l.err == nil {
		return
	}
	for _, ack := range l.acks {
		s.shards[ack.Shard].sent = 0
	}
}

// nextWake is how long nothing is due by itself.
func (s *markerSender) nextWake(now time.Time) time.Duration {
	wake := maxSleep
	for _, d := range s.shards {
		if !d.busy && d.retryAt.After(now) {
			wake = min(wake, d.retryAt.Sub(now))
		}
	}
	if len(s.acks) > 0 && !s.logging {
		wake = min(wake, max(s.acksAt.Sub(now), 0))
	}
	return wake
}
