package txn

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// A small world with tight limits, so that evictions, throttling and expiry
// happen all the time.
func tightConfig() Config {
	cfg := DefaultConfig()
	cfg.MinTimeout, cfg.MaxTimeout, cfg.DefaultTimeout = 1, 100, 20
	cfg.IDExpiration = 60
	cfg.OutcomesKept, cfg.RequestIDsKept, cfg.MaxUnfinished, cfg.MaxParticipants = 3, 2, 4, 3
	cfg.MaxPartitionsPerTxn = 5
	return cfg
}

// duel drives the machine and the model with the same random commands.
type duel struct {
	t     *testing.T
	rnd   *rand.Rand
	m     *Machine
	model *model
	w     world
	now   Millis
	told  map[Ref]Outcome // what some client was told for sure (I13)
	// history lists the keys of told, oldest first. Every commit ever decided
	// is among them: only EndTransaction and CompletePrepared commit, and they tell.
	history []Ref
	phases  map[Ref]Phase
	pids    map[uint64]bool
}

var duelIDs = []string{"a", "b", "c"}

func newDuel(t *testing.T, seed uint64) *duel {
	w := newWorld()
	return &duel{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), w: w, now: 1000,
		m: New(tightConfig()), model: newModel(tightConfig(), w),
		told: map[Ref]Outcome{}, phases: map[Ref]Phase{}, pids: map[uint64]bool{},
	}
}

// someRef picks a transaction near what is going on, or one of the past: decided
// long ago, or just above what was, as a zombie would name it.
func (d *duel) someRef() Ref {
	if n := len(d.history); n > 0 && d.rnd.IntN(8) == 0 {
		r := d.history[d.rnd.IntN(n)]
		r.Number += d.rnd.Uint64N(2)
		return r
	}
	p := d.model.ids[duelIDs[d.rnd.IntN(len(duelIDs))]]
	if p == nil || d.rnd.IntN(40) == 0 {
		return ref(d.rnd.Uint64N(d.model.nextID+1), uint32(d.rnd.IntN(2)), d.rnd.Uint64N(3))
	}
	epoch := p.epoch
	switch d.rnd.IntN(12) {
	case 0:
		epoch -= min(epoch, 1)
	case 1:
		epoch += uint32(d.rnd.IntN(2))
	}
	if r, x := p.prepared(); x != nil && d.rnd.IntN(2) == 0 {
		return r
	}
	number := p.last() + 3 - min(d.rnd.Uint64N(8), p.last()+3)
	if r, x := p.open(); x != nil && d.rnd.IntN(2) == 0 {
		number = r.Number
	}
	return ref(p.pid, epoch, number)
}

func (d *duel) someParticipants(r Ref) []Participant {
	var list []Participant
	if p := d.model.byPID(r.ProducerID); p != nil && d.rnd.IntN(3) > 0 {
		if open, x := p.open(); x != nil && open == r {
			for shard := uint64(1); shard <= 4; shard++ {
				if x.enlisted[shard] {
					list = append(list, at(shard, d.rnd.Uint64N(9)))
				}
			}
		}
	}
	for range d.rnd.IntN(3) {
		shard := 1 + d.rnd.Uint64N(4)
		if d.rnd.IntN(30) == 0 {
			shard = 9
		}
		list = append(list, Participant{Shard: shard, Progress: []Progress{{shard*10 + d.rnd.Uint64N(3), 1}}})
	}
	d.rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func (d *duel) same(what string, got, want any) {
	d.t.Helper()
	if got != want {
		d.t.Fatalf("%s: machine %v, model %v", what, got, want)
	}
}

func (d *duel) step() {
	d.t.Helper()
	if d.rnd.IntN(3) == 0 {
		d.now += d.rnd.Int64N(8)
	}
	d.model.now = d.now
	env := Env{Catalog: d.w}
	switch n := d.rnd.IntN(100); {
	case n < 6:
		d.stepInit()
	case n < 36:
		d.stepEnlist(env)
	case n < 60:
		d.stepEnd(env)
	case n < 66:
		d.stepPrepared(env)
	case n < 86:
		d.stepMarkers()
	case n < 92:
		r := d.someRef()
		if due := d.m.Expired(d.now, 3); len(due) > 0 {
			r = due[d.rnd.IntN(len(due))]
		}
		d.same("expire", d.m.Expire(d.now, Expire{Refs: []Ref{r}}).Codes[0], d.model.expire(r))
	case n < 94:
		r, force := d.someRef(), d.rnd.IntN(2) == 0
		code := d.m.AbortTransaction(d.now, AbortTransaction{Ref: r, Force: force}).Code
		d.same("abort", code, d.model.abortTransaction(r, force))
		switch code {
		case CodeOK, CodeFenced:
			d.tell(r, Aborted)
		case CodeConflict:
			d.tell(r, Committed)
		default: // nothing is claimed
		}
	case n < 95:
		id, epoch := duelIDs[d.rnd.IntN(3)], uint32(d.rnd.IntN(6))
		if p := d.model.ids[id]; p != nil {
			epoch = p.epoch + uint32(d.rnd.IntN(2))
		}
		d.same("fence", d.m.FenceProducer(d.now, FenceProducer{id, epoch}).Code, d.model.fence(id, epoch))
	case n < 96:
		id := duelIDs[d.rnd.IntN(3)]
		d.same("delete", d.m.DeleteID(d.now, DeleteID{TransactionalID: id}).Code, d.model.deleteID(id))
	case n < 98:
		pid := d.rnd.Uint64N(d.model.nextID + 1)
		if idle := d.m.IdleIDs(d.now, 1); len(idle) > 0 {
			pid = idle[0]
		}
		d.same("expire id", d.m.ExpireIDs(d.now, ExpireIDs{[]uint64{pid}}).Codes[0], d.model.expireID(pid))
	default:
		d.stepCatalogue()
	}
	d.compare()
}

func (d *duel) stepInit() {
	c := InitProducer{
		TransactionalID: duelIDs[d.rnd.IntN(3)], Timeout: 5 + d.rnd.Int64N(30),
		RequestID: RequestID{1 + byte(d.rnd.IntN(250))}, KeepPrepared: d.rnd.IntN(2) == 0,
	}
	if d.rnd.IntN(4) == 0 {
		c.Owner, c.Exclusive = [...]string{"ann", "bob"}[d.rnd.IntN(2)], d.rnd.IntN(4) > 0
	}
	if d.rnd.IntN(10) == 0 {
		c.TransactionalID = ""
	}
	for range 1 + d.rnd.IntN(2) {
		res := d.m.InitProducer(d.now, c)
		code, pid, epoch, closed := d.model.initProducer(c)
		d.same("init code", res.Code, code)
		d.same("init producer id", res.ProducerID, pid)
		d.same("init epoch", res.Epoch, epoch)
		d.same("init closed", res.Closed, closed)
		if c.TransactionalID == "" {
			d.same("producer id is new (I9)", d.pids[pid], false)
		}
		if code != CodeNotOwner {
			d.pids[pid] = true
		}
	}
}

func (d *duel) stepEnlist(env Env) {
	item := EnlistItem{
		Ref: d.someRef(), Shard: 1 + d.rnd.Uint64N(4), OpenedAt: d.rnd.Uint64(),
		Age: d.rnd.Int64N(10) - 2, Partitions: []uint64{10 + d.rnd.Uint64N(40), 10 + d.rnd.Uint64N(40)},
	}
	peeked, needsLog := d.m.PeekEnlist(item, env)
	before := d.m.Snapshot()
	got := d.m.Enlist(d.now, Enlist{Items: []EnlistItem{item}}, env).Answers[0]
	d.same("peek", sameAnswer(peeked, got), true)
	d.m.now, d.now = max(d.m.now, d.now), max(d.m.now, d.now)
	if !needsLog {
		other := New(d.m.Config())
		if err := other.Restore(before); err != nil {
			d.t.Fatal(err)
		}
		other.now = d.m.now
		d.same("an answer without the log changes nothing", string(other.Snapshot()), string(d.m.Snapshot()))
	}
	d.same("enlist", got.Verdict, d.model.enlist(item))
	d.same("echo", got.OpenedAt, item.OpenedAt)
}

func (d *duel) stepEnd(env Env) {
	c := EndTransaction{Ref: d.someRef(), Commit: d.rnd.IntN(3) > 0}
	c.Participants = d.someParticipants(c.Ref)
	var o *offsets
	if d.rnd.IntN(4) == 0 {
		o = &offsets{refuse: d.rnd.IntN(3) == 0}
		env.Offsets = o
	}
	res := d.m.EndTransaction(d.now, c, env)
	code, reason := d.model.end(c, o)
	d.same("end", res.Code, code)
	d.same("end reason", res.Reason, reason)
	if o != nil {
		moved := c.Commit && code == CodeOK && !res.Repeated
		d.same("offsets moved", o.moves == 1, moved)
	}
	switch code {
	case CodeOK, CodeConflict:
		d.tell(c.Ref, res.Outcome)
		if !res.Superseded.IsZero() {
			d.tell(res.Superseded, Aborted)
		}
	case CodeFenced:
		d.tell(c.Ref, Aborted) // surely not committed
	default: // nothing is claimed
	}
}

// stepPrepared prepares a transaction, or carries out a word about one.
func (d *duel) stepPrepared(env Env) {
	r := d.someRef()
	if d.rnd.IntN(2) == 0 {
		c := PrepareTransaction{Ref: r, Participants: d.someParticipants(r)}
		var o *offsets
		if d.rnd.IntN(4) == 0 {
			o = &offsets{refuse: d.rnd.IntN(3) == 0}
			env.Offsets = o
		}
		res := d.m.PrepareTransaction(d.now, c, env)
		d.same("prepare", res.Code, d.model.prepare(c, o))
		if o != nil {
			d.same("offsets held", o.holds == 1, res.Code == CodeOK && !res.Repeated)
			d.same("offsets moved", o.moves, 0)
		}
		if !res.Superseded.IsZero() {
			d.tell(res.Superseded, Aborted)
		}
		switch res.Code {
		case CodeConflict:
			d.tell(r, res.Outcome)
		case CodeFenced:
			d.tell(r, Aborted)
		default: // nothing is claimed
		}
		return
	}
	c := CompletePrepared{Ref: r, Commit: d.rnd.IntN(2) == 0}
	res := d.m.CompletePrepared(d.now, c)
	d.same("complete", res.Code, d.model.complete(c))
	switch res.Code {
	case CodeOK, CodeConflict:
		d.tell(r, res.Outcome)
	case CodeFenced:
		d.tell(r, Aborted)
	default: // nothing is claimed
	}
}

// tell notes what a client was told about r, which must never change (I5, I13),
// however much of it the machine has forgotten.
func (d *duel) tell(r Ref, o Outcome) {
	d.t.Helper()
	before, known := d.told[r]
	if known {
		if before != o {
			d.t.Fatalf("%v: told %v, before %v (I5, I13)", r, o, before)
		}
		return
	}
	d.told[r] = o
	d.history = append(d.history, r)
}

func (d *duel) stepMarkers() {
	var items []MarkerAck
	for range 1 + d.rnd.IntN(3) {
		item := MarkerAck{Ref: d.someRef(), Shard: 1 + d.rnd.Uint64N(4), Answer: MarkerAnswer(1 + d.rnd.IntN(5))}
		if owed := slices.Collect(d.m.Owed(item.Shard)); len(owed) > 0 && d.rnd.IntN(5) > 0 {
			item.Ref = owed[d.rnd.IntN(len(owed))].Ref
		}
		items = append(items, item)
	}
	res := d.m.MarkersApplied(d.now, MarkersApplied{Items: items})
	noted := 0
	var completed []Ref
	for _, item := range items {
		news, complete := d.model.markersApplied(item)
		if news {
			noted++
		}
		if complete {
			completed = append(completed, item.Ref)
		}
	}
	d.same("noted", res.Noted, noted)
	d.same("completed", slices.Equal(res.Completed, completed), true)
}

// stepCatalogue removes a shard, or brings it back under its old number, which
// the real catalogue never does but which keeps the world from running out.
func (d *duel) stepCatalogue() {
	shard := 1 + d.rnd.Uint64N(4)
	if !d.w.HasShard(shard) {
		d.w[shard] = newWorld()[shard]
		return
	}
	if d.rnd.IntN(2) == 0 {
		delete(d.w, shard)
		d.m.RemoveShard(d.now, shard)
		d.model.removeShard(shard)
		return
	}
	d.m.RemovePartitions(d.now, shard, []uint64{shard * 10})
}

func (d *duel) compare() {
	d.t.Helper()
	if err := d.m.Check(); err != nil {
		d.t.Fatal(err)
	}
	for shard := uint64(1); shard <= 4; shard++ {
		var got []Ref
		for mk := range d.m.Owed(shard) {
			got = append(got, mk.Ref)
			d.same("complete below", mk.CompleteBelow, d.model.byPID(mk.Ref.ProducerID).completeBelow())
		}
		if want := d.model.owedTo(shard); !slices.Equal(got, want) {
			d.t.Fatalf("owed to %d: machine %v, model %v", shard, got, want)
		}
	}
	due := map[Ref]bool{}
	for _, p := range d.model.ids {
		for r, x := range p.txns {
			status, reason := d.model.status(r)
			rep := d.m.GetOutcome(r)
			if rep.Status != status || rep.Reason != reason || status <= StatusAborted && rep.Damaged != x.damaged {
				d.t.Fatalf("outcome of %v: machine %+v, model %v %v", r, rep, status, reason)
			}
			if x.open && x.deadline <= d.now {
				due[r] = true
			}
			d.track(r)
		}
	}
	expired := d.m.Expired(d.now, 100)
	d.same("expired", len(expired), len(due))
	for _, r := range expired {
		d.same("expired is due", due[r], true)
	}
	d.same("ids", d.m.Counts().IDs, len(d.model.ids))
	prepared := 0
	for _, p := range d.model.ids {
		if _, x := p.prepared(); x != nil {
			prepared++
		}
	}
	d.same("prepared", d.m.Counts().Prepared, prepared)
	d.comparePast()
	for r := range maps.Keys(d.phases) {
		d.track(r)
	}
}

// comparePast asks about one transaction of the past, and checks that what is
// reported is what an attempt to end it would be told.
func (d *duel) comparePast() {
	d.t.Helper()
	if len(d.history) == 0 {
		return
	}
	r := d.history[d.rnd.IntN(len(d.history))]
	r.Number += d.rnd.Uint64N(2)
	status, reason := d.model.status(r)
	rep := d.m.GetOutcome(r)
	if rep.Status != status || rep.Reason != reason {
		d.t.Fatalf("outcome of %v: machine %+v, model %v %v", r, rep, status, reason)
	}
	switch status {
	case StatusCommitted:
		d.tell(r, Committed)
	case StatusAborted:
		d.tell(r, Aborted)
	default: // nothing is claimed
	}
	p := d.m.byID[r.ProducerID]
	if p == nil || r.Epoch >= p.epoch {
		return
	}
	// Of an older epoch nothing is decided: asking is safe.
	res := d.m.EndTransaction(d.now, EndTransaction{Ref: r, Commit: true}, Env{Catalog: d.w})
	want := map[Status]Code{
		StatusCommitted: CodeOK, StatusAborted: CodeConflict, StatusForgotten: CodeForgotten,
		StatusPrepared: CodePreparedExists,
	}[status]
	if status == StatusAborted && rep.DecidedAt == 0 {
		want = CodeFenced
	}
	d.same("a commit of "+status.String(), res.Code, want)
}

// track checks every transaction against the transition table.
func (d *duel) track(r Ref) {
	d.t.Helper()
	was, now := d.phases[r], d.m.Phase(r)
	if was != now && !was.CanBecome(now) {
		d.t.Fatalf("%v went from %v to %v", r, was, now)
	}
	if now == PhaseOver && d.model.byPID(r.ProducerID) == nil {
		delete(d.phases, r) // the id is gone, ids are never used again
		return
	}
	d.phases[r] = now
}

// Covers CC-03 of CONFORMANCE.md.
func TestRandomAgainstModel(t *testing.T) {
	t.Parallel()
	seeds, steps := uint64(40), 400
	if testing.Short() {
		seeds = 15
	}
	for seed := range seeds {
		t.Run("seed "+decimal(seed), func(t *testing.T) {
			t.Parallel()
			d := newDuel(t, seed)
			for range steps {
				d.step()
			}
		})
	}
}
