package streams

import (
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
)

// Record is one record of a stream.
type Record[K, V any] struct {
	// Key says which partition the record belongs to.
	Key K
	// Value of the record.
	Value V
	// Timestamp of the record: what windows and stream time go by. What a record
	// leads to has its timestamp.
	Timestamp time.Time
	// Headers beside key and value; handed on.
	Headers []client.Header
}

// Topic is a topic with the types of its records.
type Topic[K, V any] struct {
	// Name of the topic.
	Name string
	// Key and Value say how its records are encoded.
	Key   Serde[K]
	Value Serde[V]
}

// NewTopic returns a topic with the types of its records. It creates nothing.
func NewTopic[K, V any](name string, key Serde[K], value Serde[V]) Topic[K, V] {
	return Topic[K, V]{Name: name, Key: key, Value: value}
}

// decode reads a record of the topic.
func (t Topic[K, V]) decode(r *client.Record) (out Record[K, V], err error) {
	out.Timestamp, out.Headers = r.Timestamp, r.Headers
	if out.Key, err = t.Key.Decode(r.Key); err != nil {
		return out, decodeError(r, "key", err)
	}
	if out.Value, err = t.Value.Decode(r.Value); err != nil {
		return out, decodeError(r, "value", err)
	}
	return out, nil
}

// encode writes a record for the topic.
func (t Topic[K, V]) encode(r Record[K, V]) (*client.Record, error) {
	key, err := t.Key.Encode(r.Key)
	if err != nil {
		return nil, &EncodeError{Topic: t.Name, Part: "key", Err: err}
	}
	value, err := t.Value.Encode(r.Value)
	if err != nil {
		return nil, &EncodeError{Topic: t.Name, Part: "value", Err: err}
	}
	return &client.Record{Topic: t.Name, Key: key, Value: value, Timestamp: r.Timestamp, Headers: r.Headers}, nil
}

// stage takes a record one step further.
type stage[K, V any] func(t *engine.Task, r Record[K, V]) error
