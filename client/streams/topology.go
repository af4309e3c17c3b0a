package streams

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
)

// maxName is the longest name of a topic that a cluster takes.
const maxName = 249

// Topology says what an application does: which topics it reads, what becomes of
// their records, what it keeps, and what it writes. It is built once, by one
// goroutine, and not changed after it has been given to [NewApp] or [NewDriver],
// which also report what is wrong with it.
//
// Steps that share a store, or are joined, work on the same partition of all their
// topics and form a sub-topology. An instance of one for one partition is a task.
type Topology struct {
	application string
	sources     []*sourceNode // in the order in which they were added
	byTopic     map[string]*sourceNode
	stores      map[string]*storeNode
	punctuators []*punctuatorNode
	errs        []error
}

// sourceNode is a topic that is read.
type sourceNode struct {
	source engine.Source
	joined *sourceNode // another one of its group, or itself
}

type storeNode struct {
	spec engine.StoreSpec
	at   *sourceNode
}

type punctuatorNode struct {
	p  engine.Punctuator
	at *sourceNode
}

// NewTopology returns an empty topology. application, at most 200 characters of
// [a-zA-Z0-9._-], is the application's id: all its instances have the same. It is
// the name of their consumer group, and what the names of internal topics begin
// with; another id is another application, which begins anew.
func NewTopology(application string) *Topology {
	t := &Topology{application: application, byTopic: map[string]*sourceNode{}, stores: map[string]*storeNode{}}
	if !validName(application) || len(application) > 200 {
		t.fail("NewTopology", application, "an application id is 1 to 200 characters of a-z, A-Z, 0-9, '.', '_' and '-'")
	}
	return t
}

// Application returns the application's id.
func (t *Topology) Application() string { return t.application }

func validName(name string) bool {
	return name != "" && len(name) <= maxName && strings.Trim(name,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// fail notes what is wrong.
func (t *Topology) fail(step, name, reason string) {
	t.errs = append(t.errs, &TopologyError{Step: step, Name: name, Reason: reason})
}

// add adds a source.
func (t *Topology) add(step string, s engine.Source) *sourceNode {
	if !validName(s.Topic) {
		t.fail(step, s.Topic, "not the name of a topic: 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'")
	}
	if t.byTopic[s.Topic] != nil {
		t.fail(step, s.Topic, "the topic is read already: read it once, and use the stream or table twice")
	}
	n := &sourceNode{source: s}
	n.joined = n
	t.sources = append(t.sources, n)
	t.byTopic[s.Topic] = n
	return n
}

// root returns the source that stands for a group.
func (n *sourceNode) root() *sourceNode {
	for n.joined != n {
		n = n.joined
	}
	return n
}

// join makes two sources part of one group.
func join(a, b *sourceNode) {
	if a, b = a.root(), b.root(); a != b {
		b.joined = a
	}
}

// addStore adds a store to the group of a source.
func (t *Topology) addStore(step string, spec engine.StoreSpec, at *sourceNode) {
	if !validName(spec.Name) {
		t.fail(step, spec.Name, "not the name of a store: characters of a-z, A-Z, 0-9, '.', '_' and '-'")
	}
	if spec.Topic == "" {
		spec.Topic = t.application + "-" + spec.Name + "-changelog"
		if len(spec.Topic) > maxName {
			t.fail(step, spec.Name, "the name of the changelog would be longer than 249 characters")
		}
	}
	if t.stores[spec.Name] != nil {
		t.fail(step, spec.Name, "there is a store of that name")
		return
	}
	t.stores[spec.Name] = &storeNode{spec: spec, at: at}
}

// useStore has a step work on a store, which is added if it is new.
func (t *Topology) useStore(step string, spec engine.StoreSpec, at *sourceNode) {
	if s := t.stores[spec.Name]; s != nil {
		if s.spec.Window != spec.Window || s.spec.Retention != spec.Retention {
			t.fail(step, spec.Name, "there is another store of that name")
		}
		join(s.at, at)
		return
	}
	t.addStore(step, spec, at)
}

// plan returns what the topology does, or what is wrong with it.
func (t *Topology) plan() (*engine.Plan, error) {
	if len(t.sources) == 0 {
		t.fail("NewTopology", t.application, "no topic is read: begin with From or TableFrom")
	}
	if len(t.errs) > 0 {
		return nil, errors.Join(t.errs...)
	}
	p := &engine.Plan{Application: t.application}
	groups := map[*sourceNode]*engine.Group{}
	for _, n := range t.sources {
		g := groups[n.root()]
		if g == nil {
			g = &engine.Group{}
			groups[n.root()] = g
			p.Groups = append(p.Groups, g)
		}
		g.Sources = append(g.Sources, &n.source)
	}
	for _, s := range t.stores { // sorted below
		g := groups[s.at.root()]
		g.Stores = append(g.Stores, &s.spec)
	}
	for _, n := range t.punctuators {
		g := groups[n.at.root()]
		g.Punctuators = append(g.Punctuators, &n.p)
	}
	for _, g := range p.Groups {
		slices.SortFunc(g.Sources, func(a, b *engine.Source) int { return cmp.Compare(a.Topic, b.Topic) })
		slices.SortFunc(g.Stores, func(a, b *engine.StoreSpec) int { return cmp.Compare(a.Name, b.Name) })
	}
	return p, nil
}

// From reads a topic as a stream: every record is a fact of its own.
func From[K, V any](t *Topology, topic Topic[K, V]) *Stream[K, V] {
	s := &Stream[K, V]{t: t}
	s.at = t.add("From", engine.Source{Topic: topic.Name, Process: func(task *engine.Task, r *client.Record) error {
		in, err := topic.decode(r)
		if err != nil {
			return err
		}
		return s.emit(task, in)
	}})
	t.checkSerdes("From", topic.Name, topic.Key.complete() && topic.Value.complete())
	return s
}

func (t *Topology) checkSerdes(step, name string, complete bool) {
	if !complete {
		t.fail(step, name, "a serde lacks Encode or Decode")
	}
}
