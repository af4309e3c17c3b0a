package engine

import (
	"slices"
	"strconv"

	"github.com/oncelog/oncelog/client"
)

// Plan is a topology: groups of nodes that share nothing but topics.
type Plan struct {
	// Application is the id that the names of internal topics begin with.
	Application string
	// Groups are the sub-topologies; their tasks are numbered by partition.
	Groups []*Group
}

// Group is a sub-topology: what a record of one of its topics can reach without
// another topic in between.
type Group struct {
	// Sources are sorted by topic.
	Sources []*Source
	// Stores are sorted by name.
	Stores []*StoreSpec
	// Punctuators are in the order in which they were made.
	Punctuators []*Punctuator
}

// Source is a topic that is read.
type Source struct {
	// Topic is its name.
	Topic string
	// Internal: the application makes it, see Partitions.
	Internal bool
	// Partitions of an internal topic; 0: as many as the topics before it.
	Partitions int
	// From is the topic of a source before an internal one.
	From string
	// Table: of records with one time, these come before those of streams.
	Table bool
	// Process takes a record through the nodes behind the source.
	Process func(t *Task, r *client.Record) error
}

// StoreSpec is a store of every task of a group.
type StoreSpec struct {
	// Name of the store, unique in the topology.
	Name string
	// Topic is what the store is a copy of: its changelog, or the source of a table.
	Topic string
	// OfSource: Topic is a source, and its records are what is in the store.
	OfSource bool
	// Accept says whether a record of a source is put in the store; nil: all.
	Accept func(r *client.Record) bool
	// Window: keys begin with a time, see [WindowKey], and go after Retention.
	Window bool
	// Retention is how long after its start a window is kept, in milliseconds of
	// stream time.
	Retention int64
}

// Punctuator is called from time to time.
type Punctuator struct {
	// Every is the period in milliseconds, more than 0.
	Every int64
	// Wall: by the wall clock; otherwise by stream time.
	Wall bool
	// Do is called with the time in milliseconds.
	Do func(t *Task, now int64) error
}

// Source returns the source of a topic; nil: the group does not read it.
func (g *Group) Source(topic string) *Source {
	for _, s := range g.Sources {
		if s.Topic == topic {
			return s
		}
	}
	return nil
}

// GroupOf returns the number of the group that reads a topic; -1: none.
func (p *Plan) GroupOf(topic string) int {
	return slices.IndexFunc(p.Groups, func(g *Group) bool { return g.Source(topic) != nil })
}

// Store returns a store and the number of its group; nil: there is none.
func (p *Plan) Store(name string) (*StoreSpec, int) {
	for i, g := range p.Groups {
		for _, s := range g.Stores {
			if s.Name == name {
				return s, i
			}
		}
	}
	return nil, -1
}

// Topics returns all topics that are read, sorted.
func (p *Plan) Topics() []string {
	var names []string
	for _, g := range p.Groups {
		for _, s := range g.Sources {
			names = append(names, s.Topic)
		}
	}
	slices.Sort(names)
	return names
}

// ID names a task.
type ID struct {
	// Group is the index of its sub-topology.
	Group int
	// Partition of all its topics.
	Partition int32
}

// String returns "group_partition", as Kafka Streams writes it.
func (id ID) String() string { return strconv.Itoa(id.Group) + "_" + strconv.Itoa(int(id.Partition)) }
