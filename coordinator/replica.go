package coordinator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/raftstore"
)

// The first byte of a log entry says which core it is for. The numbers are for
// ever.
const (
	entryTxn     = 1
	entryCatalog = 2
	entryGroup   = 3
	entryMember  = 4
)

// entryVersion is the version of that byte and of what may follow it. It is not
// written: what comes after the byte has a version of its own. snapshotVersion is
// the first byte of a snapshot.
const (
	entryVersion    = 1
	snapshotVersion = 1
)

// maxCoreSnapshot bounds one core's part of a snapshot.
const maxCoreSnapshot = 1 << 34

// replica is the state machine of the coordinator group: the four cores, and
// the rules between them. One EndTransaction decides the transaction, checks
// the group and moves the offsets; one DeleteTopic removes the partitions and
// lets go of everything that waits for them.
//
// The store's loop applies; everybody else reads under the lock.
type replica struct {
	mu      sync.RWMutex
	txns    *txn.Machine
	groups  *group.Machine
	catalog *catalog.Catalog
	members *membership.Membership

	rules txn.Config
	keys  *token.Keyring
	// maxLevel is the level of formats up to which this node reads. It stops the node,
	// and decides nothing.
	maxLevel uint32
	// applied is signalled after every entry, placed after those that changed
	// the catalogue or the coordinators, rebalanced after those that changed who reads what: heartbeats
	// wait for these, and would otherwise wake up for every transaction of the
	// cluster.
	applied, placed, rebalanced *notifier
	// events is for who watches; it is not part of the state.
	events *eventLog
}

func newReplica(rules txn.Config, keys *token.Keyring, maxLevel uint32, applied, placed *notifier) *replica {
	r := &replica{
		maxLevel:   maxLevel,
		txns:       txn.New(rules),
		groups:     group.New(),
		catalog:    catalog.New(),
		members:    membership.New(),
		rules:      rules,
		keys:       keys,
		applied:    applied,
		placed:     placed,
		rebalanced: newNotifier(),
		events:     newEventLog(keptEvents),
	}
	r.txns.Observe(r.events.add)
	return r
}

// undecodable is the result of an entry that makes no sense in a version that
// every replica knows: all of them skip it alike.
type undecodable struct{ err error }

// Apply implements [raftstore.Machine]. An entry of a version, or for a core, that
// this program does not know was written by a newer one, whose members apply it.
// To skip it would make this replica differ from them for ever, so it is an error,
// and so is the raise of the level above what this node reads: what follows it may
// be unknown.
func (r *replica) Apply(e raftstore.Entry, _ raftstore.RowWriter) (any, error) {
	result := r.applyEntry(e)
	var level *levelError
	switch err := tooNew(result); {
	case errors.As(err, &level):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w; start this node with the program that the other coordinators run, its data stay as they are", err)
	}
	return result, nil
}

// tooNew returns the error of an entry that this program does not know.
func tooNew(result any) error {
	if u, ok := result.(undecodable); ok && errors.Is(u.err, codec.ErrVersion) {
		return u.err
	}
	return nil
}

func (r *replica) applyEntry(e raftstore.Entry) any {
	r.mu.Lock()
	r.events.begin(e.Index)
	version, members, rebalances := r.catalog.Version(), r.members.Version(), r.groups.Rebalances()
	result := r.apply(e.Data)
	placed, rebalanced := r.catalog.Version() != version || r.members.Version() != members, r.groups.Rebalances() != rebalances
	r.mu.Unlock()
	r.events.end()
	r.applied.signal()
	if placed {
		r.placed.signal()
	}
	if rebalanced {
		r.rebalanced.signal()
	}
	return result
}

func (r *replica) apply(data []byte) any {
	if len(data) == 0 {
		return undecodable{codec.ErrShort}
	}
	body := data[1:]
	switch data[0] {
	case entryTxn:
		at, cmd, err := txn.DecodeCommand(body)
		if err != nil {
			return undecodable{err}
		}
		return r.applyTxn(at, cmd)
	case entryCatalog:
		cmd, err := catalog.DecodeCommand(body)
		if err != nil {
			return undecodable{err}
		}
		return r.applyCatalog(cmd)
	case entryGroup:
		cmd, err := group.DecodeCommand(body)
		if err != nil {
			return undecodable{err}
		}
		return r.groups.Apply(partitionSet{r.catalog}, cmd)
	case entryMember:
		cmd, err := membership.DecodeCommand(body)
		if err != nil {
			return undecodable{err}
		}
		if raise, ok := cmd.(membership.Raise); ok && raise.Level > r.maxLevel {
			return undecodable{&levelError{readable: r.maxLevel, cluster: raise.Level}}
		}
		return r.members.Apply(cmd)
	default:
		return undecodable{&codec.VersionError{Format: "coordinator entry", Found: entryVersion, First: entryVersion, Last: entryVersion, Kind: uint64(data[0]), KindUnknown: true}}
	}
}

// endResult is what an EndTransaction or a PrepareTransaction returns: the decision,
// and what the group said when it refused.
type endResult struct {
	txn.EndTransactionResult
	group group.Refusal
}

func (r *replica) applyTxn(at txn.Millis, cmd txn.Command) any {
	env := txn.Env{Catalog: r.catalog}
	var offsets *commitOffsets
	carry := func(ref txn.Ref, payload []byte) {
		if len(payload) == 0 {
			return
		}
		if commits, err := group.DecodeCommits(payload); err == nil {
			offsets = &commitOffsets{groups: r.groups, catalog: partitionSet{r.catalog}, by: groupRef(ref), commits: commits, at: at}
			env.Offsets = offsets
		}
	}
	answer := func(res txn.EndTransactionResult) endResult {
		if offsets == nil {
			return endResult{EndTransactionResult: res}
		}
		return endResult{EndTransactionResult: res, group: offsets.refusal}
	}
	switch c := cmd.(type) {
	case txn.EndTransaction:
		carry(c.Ref, c.OffsetsPayload)
		return answer(r.txns.EndTransaction(at, c, env))
	case txn.PrepareTransaction:
		carry(c.Ref, c.OffsetsPayload)
		return answer(r.txns.PrepareTransaction(at, c, env).EndTransactionResult)
	case txn.CompletePrepared:
		res := r.txns.CompletePrepared(at, c)
		if res.Code == txn.CodeOK {
			r.groups.SettleHeld(at, groupRef(c.Ref), c.Commit)
		}
		return endResult{EndTransactionResult: res.EndTransactionResult}
	case txn.AbortTransaction:
		res := r.txns.AbortTransaction(at, c)
		if res.Code == txn.CodeOK {
			r.groups.SettleHeld(at, groupRef(c.Ref), false)
		}
		return res
	default:
		return r.txns.Apply(at, cmd, env)
	}
}

// groupRef is a transaction as the group core names it.
func groupRef(r txn.Ref) group.TxnRef {
	return group.TxnRef{ProducerID: r.ProducerID, Epoch: r.Epoch, Number: r.Number}
}

func (r *replica) applyCatalog(cmd catalog.Command) catalog.Result {
	res := r.catalog.Apply(cmd)
	for _, removed := range res.Removed {
		r.txns.RemovePartitions(r.catalog.Now(), removed.Shard, removed.Partitions)
		r.groups.Apply(partitionSet{r.catalog}, group.RemovePartitions{At: r.catalog.Now(), Partitions: removed.Partitions})
	}
	if res.Changed && res.Topic.Name != "" {
		r.groups.Apply(partitionSet{r.catalog}, group.TopicsChanged{At: r.catalog.Now(), Topics: []string{res.Topic.Name}})
	}
	if gone, ok := cmd.(catalog.RemoveShard); ok && res.Changed {
		r.txns.RemoveShard(r.catalog.Now(), gone.ID)
	}
	if res.Changed {
		r.publishKeys()
	}
	return res
}

// publishKeys hands the signing keys to the gRPC edge; the active one is last.
func (r *replica) publishKeys() {
	active, ok := r.catalog.ActiveKey()
	if !ok {
		return
	}
	var keys []token.Key
	for _, k := range r.catalog.Keys() {
		if k.ID != active.ID {
			keys = append(keys, token.Key{ID: k.ID, Secret: k.Secret})
		}
	}
	r.keys.Set(append(keys, token.Key{ID: active.ID, Secret: active.Secret}))
}

// Snapshot implements [raftstore.Machine].
func (r *replica) Snapshot() ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return joinSnapshot(r.catalog.Snapshot(), r.groups.Snapshot(), r.txns.Snapshot(), r.members.Snapshot()), nil
}

// joinSnapshot puts the cores' parts together, each copied once: they may be large.
func joinSnapshot(parts ...[]byte) []byte {
	size := 1
	for _, p := range parts {
		size += binary.MaxVarintLen64 + len(p)
	}
	b := append(make([]byte, 0, size), snapshotVersion)
	for _, p := range parts {
		b = codec.AppendBytes(b, p)
	}
	return b
}

// Restore implements [raftstore.Machine].
func (r *replica) Restore(index uint64, data []byte) error {
	txns, groups, cat, members := txn.New(r.rules), group.New(), catalog.New(), membership.New()
	if len(data) > 0 {
		in := codec.NewReader(data)
		in.Version("coordinator snapshot", snapshotVersion, snapshotVersion)
		parts := [4][]byte{in.Bytes(maxCoreSnapshot), in.Bytes(maxCoreSnapshot), in.Bytes(maxCoreSnapshot), in.Bytes(maxCoreSnapshot)}
		if err := in.Close(); err != nil {
			return fmt.Errorf("coordinator: snapshot: %w", err)
		}
		if err := errors.Join(cat.Restore(parts[0]), groups.Restore(parts[1]), txns.Restore(parts[2]), members.Restore(parts[3])); err != nil {
			return fmt.Errorf("coordinator: snapshot: %w", err)
		}
		if members.Level() > r.maxLevel {
			return fmt.Errorf("coordinator: snapshot: %w", &levelError{readable: r.maxLevel, cluster: members.Level()})
		}
	}
	r.mu.Lock()
	r.txns, r.groups, r.catalog, r.members = txns, groups, cat, members
	r.txns.Observe(r.events.add)
	r.events.skip(index)
	r.publishKeys()
	r.mu.Unlock()
	r.applied.signal()
	r.placed.signal()
	r.rebalanced.signal()
	return nil
}

// read runs fn with the state held still.
func (r *replica) read(fn func()) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	fn()
}
