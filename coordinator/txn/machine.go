package txn

import "slices"

// Machine holds every transactional id and what is known of its transactions.
// It is not safe for concurrent use.
type Machine struct {
	cfg Config
	// now is the highest time any command brought; it never moves back, so a
	// new leader with a slow clock cannot lengthen a timeout already begun.
	now Millis
	// nextProducerID is the lowest producer id never handed out (I9).
	nextProducerID uint64
	// nextDecision numbers the decisions that have participants. It orders
	// the markers owed to a shard, also after a Restore.
	nextDecision uint64

	byName map[string]*producer
	byID   map[uint64]*producer

	// observer is told of what happens; nil: nobody watches.
	observer func(Event)

	// What follows is derived from the above and never part of a snapshot.
	order     roster
	idle      idleList
	deadlines deadlineHeap
	prepared  map[uint64]*preparedTxn // by producer id
	owed      map[uint64]*owedList
	owned     holdings
}

// New returns an empty machine. Values of cfg outside sound limits are moved to
// the nearest sound value.
func New(cfg Config) *Machine {
	return &Machine{
		cfg:            cfg.bounded(),
		nextProducerID: 1,
		nextDecision:   1,
		byName:         map[string]*producer{},
		byID:           map[uint64]*producer{},
		prepared:       map[uint64]*preparedTxn{},
		owed:           map[uint64]*owedList{},
		owned:          holdings{},
	}
}

// Now returns the machine's time: the highest any command brought.
func (m *Machine) Now() Millis { return m.now }

// Config returns the rules the machine works by, after bounding.
func (m *Machine) Config() Config { return m.cfg }

// advance moves the machine's time to at, never back.
func (m *Machine) advance(at Millis) { m.now = max(m.now, min(at, maxTime)) }

// Catalog tells which shards and partitions exist, as of the command at hand.
type Catalog interface {
	// HasShard tells whether the shard exists.
	HasShard(shard uint64) bool
	// HasPartition tells whether the partition exists on that shard.
	HasPartition(shard, partition uint64) bool
}

// Offsets are the consumer offsets that ride on one commit.
type Offsets interface {
	// Check tells whether the group accepts them now. It changes nothing, and
	// is asked only when everything else allows the commit.
	Check() bool
	// Move makes them the committed offsets. It is called at most once, after
	// a Check that said yes, in the command that decides the commit.
	Move()
	// Hold keeps them for a transaction that is prepared in this command, so that
	// nothing else moves what they are to move. It is called at most once, after a
	// Check that said yes.
	Hold()
}

// Env is what the other cores contribute to a command.
type Env struct {
	// Catalog is needed by [Enlist], [EndTransaction] and [PrepareTransaction];
	// without one no shard exists.
	Catalog Catalog
	// Offsets belong to the EndTransaction or PrepareTransaction at hand; nil when
	// it has none.
	Offsets Offsets
}

func (e Env) hasShard(shard uint64) bool {
	return e.Catalog != nil && e.Catalog.HasShard(shard)
}

func (e Env) hasPartition(shard, partition uint64) bool {
	return e.Catalog != nil && e.Catalog.HasPartition(shard, partition)
}

// lacksAll reports whether there were partitions and none of them is left.
func (e Env) lacksAll(shard uint64, partitions []uint64) bool {
	return len(partitions) > 0 && !slices.ContainsFunc(partitions, func(p uint64) bool { return e.hasPartition(shard, p) })
}

// Command is one of the command types of this package; no other exists.
type Command interface {
	kind() kind
	withinLimits() bool
	encode(b []byte) []byte
	apply(m *Machine, at Millis, env Env) Result
}

// Result is the answer to a [Command]: the type named after it.
type Result interface{ result() }

// Apply executes a command at the given time. The methods named after the
// commands do the same with a typed result.
func (m *Machine) Apply(at Millis, c Command, env Env) Result {
	return c.apply(m, at, env)
}

// producer is one transactional id.
type producer struct {
	name       string // the transactional id
	id         uint64
	epoch      uint32
	inIdle     bool // is in the idle list; here, it takes no memory of its own
	timeout    Millis
	owner      string
	clientHost string
	// updated is when the id was last taken over, opened a transaction, had
	// one decided or had one completed.
	updated Millis
	// latest is the highest transaction ever decided; its number is 0 when
	// there is none. Decisions are only ever made in ascending order.
	latest decision
	open   *openTxn
	// prepared is a transaction that only [CompletePrepared] or an operator ends.
	// As long as there is one nothing else is open or decided: decisions would not
	// ascend otherwise.
	prepared *preparedTxn
	// completing holds the decided transactions that some participant has
	// not acknowledged, ascending.
	completing []*completion
	// outcomes holds the last completed ones, in the order of completion: one
	// that took long to complete is remembered as long as any other.
	outcomes []decision
	// requests holds the last InitProducer requests, in ascending epoch.
	requests []request
	// pastLast holds, for the last epochs that have ended, the highest number
	// decided in each, or 0; the newest, that of epoch-1, is at the end. It is
	// nil in epoch 0. See neverDecided for what it is needed for.
	pastLast []uint64

	idlePrev, idleNext *producer
}

// decision is a decided transaction without its participants.
type decision struct {
	number  uint64
	at      Millis
	epoch   uint32
	outcome Outcome
	reason  Reason
	damaged bool
}

// request is one remembered InitProducer.
type request struct {
	id    RequestID
	epoch uint32
}

// openTxn is an undecided transaction of the current epoch.
type openTxn struct {
	producer  *producer
	number    uint64
	startedAt Millis
	deadline  Millis
	enlisted  []enlisted // ascending by shard
	heapIndex int
}

// enlisted is a shard that said it holds records of an open transaction.
type enlisted struct {
	shard uint64
	// partitions are those the shard named, ascending; for display only: a
	// shard enlists at its first record and need not name later ones.
	partitions []uint64
}

// completion is a decided transaction with participants.
type completion struct {
	producer *producer
	sequence uint64
	decision decision
	pending  int // participants that have not acknowledged
	// participants never grows after the decision: the owed lists point into
	// it. Ascending by shard.
	participants []participant
}

// participant is one shard of a completion, and its node in the owed list of
// that shard while it has not acknowledged.
type participant struct {
	shard        uint64
	progress     []Progress
	acknowledged bool
	of           *completion
	prev, next   *participant
}

func (p *producer) ref(epoch uint32, number uint64) Ref {
	return Ref{ProducerID: p.id, Epoch: epoch, Number: number}
}

func (p *producer) refOf(d decision) Ref { return p.ref(d.epoch, d.number) }

// last returns the highest number opened, prepared or decided in the current epoch.
func (p *producer) last() uint64 {
	switch {
	case p.open != nil:
		return p.open.number
	case p.prepared != nil && p.prepared.ref.Epoch == p.epoch:
		return p.prepared.ref.Number
	}
	return p.lastDecided()
}

// lastDecided returns the highest number decided in the current epoch.
func (p *producer) lastDecided() uint64 {
	if p.latest.epoch == p.epoch {
		return p.latest.number
	}
	return 0
}

func (p *producer) isOpen(r Ref) bool {
	return p.open != nil && r.Epoch == p.epoch && r.Number == p.open.number
}

// unfinished counts the open, prepared and completing transactions.
func (p *producer) unfinished() int {
	if p.open != nil || p.prepared != nil {
		return len(p.completing) + 1
	}
	return len(p.completing)
}

// quiet tells whether nothing is open, prepared or completing: only then may the id go.
func (p *producer) quiet() bool {
	return p.open == nil && p.prepared == nil && len(p.completing) == 0
}

// remembered finds the decision about exactly r. The completion is nil when
// every participant has acknowledged. The latest decision is always remembered,
// even when so many older ones completed after it that it has left the
// outcomes: it is the one that a producer whose commit got no answer repeats.
func (p *producer) remembered(r Ref) (decision, *completion, bool) {
	if c := p.completion(r); c != nil {
		return c.decision, c, true
	}
	for i := len(p.outcomes) - 1; i >= 0; i-- {
		if d := p.outcomes[i]; d.number == r.Number && d.epoch == r.Epoch {
			return d, nil, true
		}
	}
	if p.latest.number != 0 && p.refOf(p.latest) == r {
		return p.latest, nil, true
	}
	return decision{}, nil, false
}

func (p *producer) completion(r Ref) *completion {
	for _, c := range p.completing {
		if c.decision.number == r.Number && c.decision.epoch == r.Epoch {
			return c
		}
	}
	return nil
}

// completeBelow returns the lowest transaction that is open, prepared, completing
// or may still come: everything of this producer below it is over on every participant.
func (p *producer) completeBelow() Ref {
	if len(p.completing) > 0 {
		return p.refOf(p.completing[0].decision)
	}
	if p.prepared != nil {
		return p.prepared.ref
	}
	if p.open != nil {
		return p.ref(p.epoch, p.open.number)
	}
	next := p.last() + 1
	if next == 0 {
		next-- // every number is used; the last one stays remembered
	}
	return p.ref(p.epoch, next)
}

// pendingShards lists the shards of c that have not acknowledged, ascending.
func (c *completion) pendingShards() []uint64 {
	shards := make([]uint64, 0, c.pending)
	for i := range c.participants {
		if !c.participants[i].acknowledged {
			shards = append(shards, c.participants[i].shard)
		}
	}
	return shards
}
