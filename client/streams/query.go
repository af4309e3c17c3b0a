package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/state"
)

// maxQueryEntries is how much one call of [View.All] may return.
const maxQueryEntries = 100_000

// View reads the stores of one name in the tasks that an instance runs: only what is
// committed, which is what consumers of the application's output see, too. It is
// safe for concurrent use. Other instances have the other keys; see [View.Owner].
type View[K, V any] struct {
	a     *App
	store Store[K, V]
	place func(key K) ([]byte, error) // what the partition of a key goes by
}

// Position is how far a store is: the offset of the first record of its changelog,
// or of the topic of a table, that is not in it.
type Position struct {
	// Topic and Partition that the store is a copy of.
	Topic     string
	Partition int32
	// Next is the offset.
	Next int64
}

// Entry is a key of a store with its value.
type Entry[K, V any] struct {
	Key   K
	Value V
}

// Query returns what reads a store of a running instance.
func Query[K, V any](a *App, store Store[K, V]) View[K, V] {
	return View[K, V]{a: a, store: store, place: store.key.Encode}
}

// QueryWindows returns what reads a window store of a running instance. Of a key
// only Key and Start count.
func QueryWindows[K, V any](a *App, store WindowStore[K, V]) View[Windowed[K], V] {
	return View[Windowed[K], V]{
		a: a, store: store.flat(),
		place: func(key Windowed[K]) ([]byte, error) { return store.key.Encode(key.Key) },
	}
}

// Get returns the value of a key, whether there is one, and how far the store was
// then. Errors: ErrNotLocal when this instance does not run the key's task, or has
// not restored it yet; ErrNoStore.
func (v View[K, V]) Get(key K) (value V, ok bool, at Position, err error) {
	p, topic, err := v.partition(key)
	if err != nil {
		return value, false, at, err
	}
	s := v.local(p)
	if s == nil {
		return value, false, at, fmt.Errorf("%w: partition %d of store %s", ErrNotLocal, p, v.store.name)
	}
	k, err := encodeKey(v.store.name, v.store.key, key)
	if err != nil {
		return value, false, at, err
	}
	err = s.View(func(r state.Reader) error {
		at = Position{Topic: topic, Partition: p, Next: r.Checkpoint().Next}
		b, err := r.Get(k)
		value, ok, err = decodeValue(v.store.name, v.store.value, b, err)
		return err
	})
	return value, ok, at, err
}

// All returns the entries of the partitions that this instance has, by partition
// and key, at most limit, 1 to 100,000, of each partition as they are at one moment;
// and where that is. Errors: ErrNotLocal when there is no such partition; ErrNoStore.
func (v View[K, V]) All(limit int) (entries []Entry[K, V], at []Position, err error) {
	if limit < 1 || limit > maxQueryEntries {
		return nil, nil, fmt.Errorf("streams: limit %d: 1 to %d", limit, maxQueryEntries)
	}
	spec, _ := v.a.plan.Store(v.store.name)
	if spec == nil {
		return nil, nil, noStore(v.store.name)
	}
	for p := range int32(v.a.topic(spec.Topic).partitions) {
		s := v.local(p)
		if s == nil {
			continue
		}
		err := s.View(func(r state.Reader) error {
			at = append(at, Position{Topic: spec.Topic, Partition: p, Next: r.Checkpoint().Next})
			return each(r, nil, nil, func(k, b []byte) error {
				if len(entries) == limit {
					return errEnough
				}
				// The serdes may keep a part of what they are given.
				return v.store.entry(slices.Clone(k), slices.Clone(b), func(key K, value V) error {
					entries = append(entries, Entry[K, V]{Key: key, Value: value})
					return nil
				})
			})
		})
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if len(at) == 0 {
		return nil, nil, fmt.Errorf("%w: any partition of store %s", ErrNotLocal, v.store.name)
	}
	return entries, at, nil
}

// errEnough ends a scan.
var errEnough = errors.New("streams: enough")

// Owner returns the id of the instance, see WithInstanceID, that the group has given
// the key's partition to: whom to ask for it. Another one may have it a moment
// later. Errors: ErrNotLocal when nobody has it.
func (v View[K, V]) Owner(ctx context.Context, key K) (instance string, err error) {
	p, _, err := v.partition(key)
	if err != nil {
		return "", err
	}
	_, group := v.a.plan.Store(v.store.name)
	source := v.a.plan.Groups[group].Sources[0].Topic
	g, err := v.a.c.Admin().DescribeGroup(ctx, v.a.plan.Application)
	if err != nil {
		return "", err
	}
	for _, at := range g.GetPartitions() {
		ref := at.GetCommitted().GetPartition()
		if ref.GetTopic() == source && int32(ref.GetPartition()) == p && at.GetMemberId() != "" {
			instance, _, _ := strings.Cut(at.GetMemberId(), "/")
			return instance, nil
		}
	}
	return "", fmt.Errorf("%w: nobody has partition %d of store %s now", ErrNotLocal, p, v.store.name)
}

// partition returns the partition of a key, and the topic that its store is a copy
// of.
func (v View[K, V]) partition(key K) (p int32, topic string, err error) {
	spec, _ := v.a.plan.Store(v.store.name)
	if spec == nil {
		return 0, "", noStore(v.store.name)
	}
	n := v.a.topic(spec.Topic).partitions
	if n == 0 {
		return 0, "", fmt.Errorf("%w: the instance has not begun to run", ErrNotLocal)
	}
	b, err := v.place(key)
	if err != nil {
		return 0, "", &EncodeError{Topic: v.store.name, Part: "key", Err: err}
	}
	if b == nil {
		b = []byte{}
	}
	return int32(client.Murmur2Partitioner(&client.Record{Key: b}, n)), spec.Topic, nil
}

func (v View[K, V]) local(p int32) state.State {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	return v.a.live[v.a.stateID(v.store.name, p)]
}
