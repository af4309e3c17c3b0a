package coordinator

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/internal/trace"
)

// Paces of marker delivery.
const (
	// markerBatch bounds the markers of one request.
	markerBatch = 2000
	// markerTimeout bounds one request; an unreachable shard is tried again.
	markerTimeout = 2 * time.Second
	// firstMarkerRetry and lastMarkerRetry bound the pause after a failed request.
	firstMarkerRetry = 20 * time.Millisecond
	lastMarkerRetry  = time.Second
)

// markerSender delivers decisions to shards for one term of office. One
// request per shard is under way at a time; what is decided meanwhile goes into
// the next one. What is owed is in the state; its own memory is about pace, and
// about answers that are true whether or not they are in the log yet.
//
// All of it belongs to the task that runs it, but for the outcomes.
type markerSender struct {
	*Coordinator
	shards map[uint64]*delivery
	// underWay are the requests and the proposals of acknowledgements.
	underWay task.Group
	outcomes outcomes
	// acks waits to be logged from acksAt on; logging says that a proposal is
	// under way. After one that failed none begins before logAfter.
	acks     []txn.MarkerAck
	acksAt   time.Time
	logAfter time.Time
	logging  bool
}

// delivery is the standing of one shard.
type delivery struct {
	// to is who leads the shard, as far as was known when the last request
	// went out; cancel ends that request while busy says that it is under way.
	to     seat
	busy   bool
	cancel context.CancelFunc
	// answered is the highest decision up to which every marker was answered:
	// not sent again while the answers are on their way into the log.
	answered uint64
	pause    time.Duration
	retryAt  time.Time
}

// answer is what became of one request.
type answer struct {
	shard uint64
	acks  []txn.MarkerAck
	// through is the decision up to which every marker was answered; 0: none.
	through uint64
	// err says why some or all were not.
	err error
}

// loggedAcks is what became of one proposal of acknowledgements.
type loggedAcks struct {
	acks []txn.MarkerAck
	err  error
}

// outcomes carries what became of requests and proposals to the loop.
type outcomes struct {
	mu      sync.Mutex
	answers []answer
	logged  []loggedAcks
	arrived chan struct{} // signalled after one was added
}

func (o *outcomes) answered(a answer) {
	o.mu.Lock()
	o.answers = append(o.answers, a)
	o.mu.Unlock()
	task.Signal(o.arrived)
}

func (o *outcomes) wasLogged(l loggedAcks) {
	o.mu.Lock()
	o.logged = append(o.logged, l)
	o.mu.Unlock()
	task.Signal(o.arrived)
}

// take returns what was added since the last call.
func (o *outcomes) take() (answers []answer, logged []loggedAcks) {
	o.mu.Lock()
	defer o.mu.Unlock()
	answers, logged = o.answers, o.logged
	o.answers, o.logged = nil, nil
	return answers, logged
}

func newMarkerSender(c *Coordinator) *markerSender {
	return &markerSender{
		Coordinator: c,
		shards:      map[uint64]*delivery{},
		outcomes:    outcomes{arrived: make(chan struct{}, 1)},
	}
}

// run returns when ctx, the term of office, ends and nothing is under way any
// more.
func (s *markerSender) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.step(ctx)
	}
	s.underWay.Wait(s.rt)
}

// step starts what is due and waits for the next event.
func (s *markerSender) step(ctx context.Context) {
	applied, moved := s.applied.next(), s.registry.watch()
	now := s.rt.Now()
	s.sendOwed(ctx, now)
	s.logAcks(ctx, now)
	s.rt.WaitFor(s.nextWake(now), applied, moved, s.hurry, s.outcomes.arrived, ctx.Done())
	answers, logged := s.outcomes.take()
	for _, a := range answers {
		s.answered(ctx, a)
	}
	for _, l := range logged {
		s.wasLogged(ctx, l)
	}
}

// sendOwed starts a request for every idle shard that is owed markers.
func (s *markerSender) sendOwed(ctx context.Context, now time.Time) {
	for _, b := range s.collect(now) {
		d := s.shards[b.shard]
		address, ok := s.peerAddress(d.to.node)
		if !ok {
			s.backOff(d, now)
			continue
		}
		request, cancel := s.rt.WithTimeout(ctx, markerTimeout)
		d.busy, d.cancel = true, cancel
		node := d.to.node
		s.underWay.Go(s.rt, func() {
			defer cancel()
			s.outcomes.answered(s.deliver(request, node, address, b))
		})
	}
}

// batch is what one request carries.
type batch struct {
	shard   uint64
	markers []txn.Marker
}

// collect takes what is owed to shards that may be sent to now. News of
// another leader ends a pause, and a request to the old one.
func (s *markerSender) collect(now time.Time) []batch {
	var batches []batch
	s.state.read(func() {
		for _, shard := range s.state.txns.OwedShards() {
			d := s.shards[shard]
			if d == nil {
				d = &delivery{}
				s.shards[shard] = d
			}
			leader := s.registry.leader(shard).seat
			moved := leader.node != 0 && leader != d.to
			if d.busy {
				if moved {
					d.cancel()
				}
				continue
			}
			if !moved && now.Before(d.retryAt) {
				continue
			}
			if b := s.unanswered(shard, d.answered); len(b.markers) > 0 {
				d.to = leader
				batches = append(batches, b)
			}
		}
	})
	return batches
}

// unanswered takes the first markers owed to a shard that were decided after
// the given decision. The caller holds the state still.
func (s *markerSender) unanswered(shard, after uint64) batch {
	b := batch{shard: shard}
	newest := s.silence.newestDecision()
	for m := range s.state.txns.Owed(shard) {
		if m.Decision <= after {
			continue
		}
		if m.Decision > newest {
			break // while a backup is made
		}
		if b.markers = append(b.markers, m); len(b.markers) == markerBatch {
			break
		}
	}
	return b
}

// peerAddress returns where a partition node is reached.
func (s *markerSender) peerAddress(node uint64) (address string, ok bool) {
	s.state.read(func() {
		n, known := s.state.catalog.Node(node)
		address, ok = n.PeerAddress, known
	})
	return address, ok
}

// deliver sends one request and waits for its answer.
func (s *markerSender) deliver(ctx context.Context, node uint64, address string, b batch) (a answer) {
	a.shard = b.shard
	client, err := s.peers.shard(node, address)
	if err != nil {
		a.err = err
		return a
	}
	request := &oncelogv1.ShardMarkers{ShardId: b.shard, Markers: make([]*oncelogv1.Marker, 0, len(b.markers))}
	var ends []trace.End
	for _, m := range b.markers {
		marker := markerProto(m)
		if end := s.traceMarker(marker, m, b.shard); end != nil {
			ends = append(ends, end)
		}
		request.Markers = append(request.Markers, marker)
	}
	defer func() {
		for _, end := range ends {
			end(a.err)
		}
	}()
	res, err := client.WriteMarkers(ctx, &oncelogv1.WriteMarkersRequest{Shards: []*oncelogv1.ShardMarkers{request}})
	switch shards := res.GetShards(); {
	case err != nil:
		a.err = err
	case len(shards) != 1 || shards[0].GetShardId() != b.shard:
		a.err = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "a node answered for other shards than it was asked about")
	case shards[0].GetError() != nil:
		a.err = apierrors.FromProto(shards[0].GetError())
	case len(shards[0].GetResults()) != len(b.markers):
		a.err = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "a node answered for another number of markers")
	default:
		a.take(b, shards[0].GetResults())
	}
	return a
}

// take makes acknowledgements of results. A result that this program does not
// know acknowledges nothing: its marker stays owed and is sent again, which
// must not keep those around it from being acknowledged.
func (a *answer) take(b batch, results []oncelogv1.MarkerResult) {
	for i, r := range results {
		told, known := markerAnswer(r)
		if !known {
			a.err = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "a node gave a result that is not known here: "+r.String())
			continue
		}
		a.acks = append(a.acks, txn.MarkerAck{Ref: b.markers[i].Ref, Shard: b.shard, Answer: told})
		if a.err == nil {
			a.through = b.markers[i].Decision
		}
	}
}

// answered takes the result of one request.
func (s *markerSender) answered(ctx context.Context, a answer) {
	d := s.shards[a.shard]
	d.busy, d.cancel = false, nil
	d.answered = max(d.answered, a.through)
	if a.err == nil {
		d.pause = 0
	} else {
		s.counters.markersFailed.Add(1)
		s.refused(ctx, d, a)
	}
	for _, ack := range a.acks {
		s.counters.markers.add(ack.Answer, 1)
		if ack.Answer == txn.MarkerMissingData || ack.Answer == txn.MarkerConflict {
			// Data that was acknowledged is not there, or was discarded: people
			// must look at this.
			s.log.Error("a shard could not apply a decision", "shard", ack.Shard, "answer", ack.Answer.String(),
				"producer_id", ack.Ref.ProducerID, "epoch", ack.Ref.Epoch, "txn_number", ack.Ref.Number)
		}
	}
	if len(s.acks) == 0 {
		s.acksAt = s.rt.Now().Add(s.cfg.AckDelay)
	}
	s.acks = append(s.acks, a.acks...)
}

// hintedBy takes the word of a node that does not lead a shard for who does.
func (c *Coordinator) hintedBy(shard uint64, refused *apierrors.Error) {
	if refused.Code == oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
		node, _ := strconv.ParseUint(refused.Metadata[apierrors.KeyLeaderNode], 10, 64)
		term, _ := strconv.ParseUint(refused.Metadata[apierrors.KeyTerm], 10, 64)
		c.registry.hint(shard, seat{node: node, term: term})
	}
}

func (s *markerSender) refused(ctx context.Context, d *delivery, a answer) {
	s.hintedBy(a.shard, apierrors.From(a.err))
	s.backOff(d, s.rt.Now())
	if ctx.Err() == nil {
		s.log.Debug("delivering markers failed; trying again", "shard", a.shard, "node", d.to.node, "error", a.err, "pause", d.pause)
	}
}

func (s *markerSender) backOff(d *delivery, now time.Time) {
	d.pause = min(max(2*d.pause, firstMarkerRetry), lastMarkerRetry)
	d.retryAt = now.Add(d.pause)
}

// logAcks proposes the gathered acknowledgements. They may wait a little for
// company, unless a caller waits for them.
func (s *markerSender) logAcks(ctx context.Context, now time.Time) {
	if s.logging || len(s.acks) == 0 || now.Before(s.ackTime()) {
		return
	}
	acks := s.acks[:min(len(s.acks), txn.MaxItems)]
	s.acks = slices.Clone(s.acks[len(acks):])
	s.logging = true
	s.underWay.Go(s.rt, func() {
		ctx, cancel := s.rt.WithTimeout(ctx, dutyTimeout)
		defer cancel()
		_, err := proposeTxn[txn.MarkersAppliedResult](ctx, s.Coordinator, txn.MarkersApplied{Items: acks})
		s.outcomes.wasLogged(loggedAcks{acks: acks, err: err})
	})
}

// ackTime is when gathered acknowledgements may go into the log.
func (s *markerSender) ackTime() time.Time {
	if s.wanting.Load() > 0 || s.acksAt.Before(s.logAfter) {
		return s.logAfter
	}
	return s.acksAt
}

// wasLogged: acknowledgements that did not make it, or perhaps did not, stay
// true and are proposed again; the state ignores what it knows.
func (s *markerSender) wasLogged(ctx context.Context, l loggedAcks) {
	s.logging = false
	if l.err == nil {
		return
	}
	s.acks = slices.Concat(l.acks, s.acks)
	s.logAfter = s.rt.Now().Add(dutyRetry)
	s.logFailure(ctx, "logging acknowledgements of markers", l.err)
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
		wake = min(wake, max(s.ackTime().Sub(now), 0))
	}
	return wake
}
