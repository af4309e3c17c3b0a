package client

import (
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Isolation says which records a consumer sees.
type Isolation uint8

// Isolation levels.
const (
	// ReadCommitted shows records of committed transactions and records written
	// without one, up to the oldest open transaction of the partition. The default.
	ReadCommitted Isolation = iota
	// ReadUncommitted shows every durable record, whatever becomes of it.
	ReadUncommitted
)

// Start says where a consumer begins in a partition without a committed position.
type Start uint8

// Starts.
const (
	// StartEarliest: at the first record that is kept. The default.
	StartEarliest Start = iota
	// StartLatest: after the last record that there is when Consume returns, or when
	// the group assigns the partition, which commits that position.
	StartLatest
	// StartNone: nowhere; Consume, or the next Poll, fails with ErrNoOffset.
	StartNone
)

// Assignor says how a group shares out the partitions of its topics. The group
// uses what most of its members ask for.
type Assignor uint8

// Assignors.
const (
	// AssignorSticky moves as few partitions as balance needs. The default.
	AssignorSticky Assignor = iota
	// AssignorRange gives each member neighbouring partitions of every topic, so
	// that topics with the same number of partitions are shared out alike.
	AssignorRange
)

func (a Assignor) proto() oncelogv1.GroupAssignor {
	if a == AssignorRange {
		return oncelogv1.GroupAssignor_GROUP_ASSIGNOR_RANGE
	}
	return oncelogv1.GroupAssignor_GROUP_ASSIGNOR_STICKY
}

// ConsumerOption configures Consume.
type ConsumerOption func(*consumerConfig)

type consumerConfig struct {
	isolation     Isolation
	start         Start
	noReset       bool
	memberID      string
	partitions    map[string][]int32
	maxRecords    int
	prefetchBytes int

	manual           bool
	instanceID       string
	assignor         Assignor
	sessionTimeout   time.Duration
	rebalanceTimeout time.Duration
	maxPollInterval  time.Duration
	onAssigned       func(*Consumer, []TopicPartition)
	onRevoked        func(*Consumer, []TopicPartition)
	onLost           func(*Consumer, []TopicPartition)
}

func defaultConsumerConfig() consumerConfig {
	return consumerConfig{
		maxRecords: 500, prefetchBytes: 16 << 20,
		sessionTimeout: 45 * time.Second, rebalanceTimeout: time.Minute, maxPollInterval: 5 * time.Minute,
	}
}

// check refuses what cannot work.
func (c *consumerConfig) check(op string) error {
	switch {
	case len(c.memberID) > maxNameBytes:
		return invalid(op, "member id of %d bytes: at most %d", len(c.memberID), maxNameBytes)
	case len(c.instanceID) > maxNameBytes:
		return invalid(op, "group instance id of %d bytes: at most %d", len(c.instanceID), maxNameBytes)
	case c.maxRecords < 1 || c.prefetchBytes < 1:
		return invalid(op, "max poll records and prefetch must be more than 0")
	case c.isolation > ReadUncommitted || c.start > StartNone || c.assignor > AssignorRange:
		return invalid(op, "isolation %d, start %d or assignor %d: no such one", c.isolation, c.start, c.assignor)
	case c.sessionTimeout < 500*time.Millisecond || c.sessionTimeout > 30*time.Minute:
		return invalid(op, "session timeout %v: 500ms to 30m", c.sessionTimeout)
	case c.rebalanceTimeout < 500*time.Millisecond || c.rebalanceTimeout > time.Hour:
		return invalid(op, "rebalance timeout %v: 500ms to 1h", c.rebalanceTimeout)
	case c.maxPollInterval <= 0:
		return invalid(op, "max poll interval %v: more than 0", c.maxPollInterval)
	}
	return nil
}

// WithIsolation sets isolation.level. Default ReadCommitted.
func WithIsolation(i Isolation) ConsumerOption { return func(c *consumerConfig) { c.isolation = i } }

// WithStart sets auto.offset.reset: where to begin in a partition without a
// committed position, and where to go on when retention has removed the record at
// the position before it was read, which is logged as a warning. Default
// StartEarliest.
func WithStart(s Start) ConsumerOption { return func(c *consumerConfig) { c.start = s } }

// WithoutReset makes Poll return OFFSET_OUT_OF_RANGE when retention has removed the
// record at the position before it was read, instead of going on as WithStart says:
// for who must know that something was missed. Seek to [Error.LogStart] goes on.
// StartNone implies it.
func WithoutReset() ConsumerOption { return func(c *consumerConfig) { c.noReset = true } }

// WithMemberID names this member of its group, 1 to 249 bytes. Two consumers
// with one name are one member, so a restarted consumer should have another one;
// for a name that outlives restarts see WithGroupInstanceID. Default: the client
// id and a random number.
func WithMemberID(id string) ConsumerOption { return func(c *consumerConfig) { c.memberID = id } }

// WithGroupInstanceID sets group.instance.id, at most 249 bytes: a static member.
// If it restarts within its session timeout it gets the partitions back that it
// had, and nobody else notices. Close does not leave the group, and a second
// consumer with the same id takes the place of the first, which fails with
// ErrFencedInstance. Default: none.
func WithGroupInstanceID(id string) ConsumerOption {
	return func(c *consumerConfig) { c.instanceID = id }
}

// WithSessionTimeout sets session.timeout: after how long without a sign of life
// the group gives the consumer's partitions to others. The package sends those
// signs by itself. Default 45 s; 500 ms to 30 min.
func WithSessionTimeout(d time.Duration) ConsumerOption {
	return func(c *consumerConfig) { c.sessionTimeout = d }
}

// WithRebalanceTimeout sets how long OnRevoked may take before the group gives the
// consumer up. Default 1 min; 500 ms to 1 h.
func WithRebalanceTimeout(d time.Duration) ConsumerOption {
	return func(c *consumerConfig) { c.rebalanceTimeout = d }
}

// WithMaxPollInterval sets max.poll.interval: a consumer of a group that is not
// polled for so long leaves it, and joins again at the next Poll. It should be
// longer than the work on one batch ever takes. Default 5 min.
func WithMaxPollInterval(d time.Duration) ConsumerOption {
	return func(c *consumerConfig) { c.maxPollInterval = d }
}

// WithAssignor sets how the group shares out partitions. Default AssignorSticky.
func WithAssignor(a Assignor) ConsumerOption { return func(c *consumerConfig) { c.assignor = a } }

// WithOnAssigned has f called with partitions that the group has given to the
// consumer, before Poll returns records of them: the place to Seek, or to read
// state. Callbacks of one consumer are called one at a time, while heartbeats and
// Polls go on; they must not Close it.
func WithOnAssigned(f func(c *Consumer, partitions []TopicPartition)) ConsumerOption {
	return func(cfg *consumerConfig) { cfg.onAssigned = f }
}

// WithOnRevoked has f called with partitions that the consumer gives back, when
// Poll returns nothing of them any more and before anybody else reads them. It has
// the rebalance timeout. Close calls it with all of them.
func WithOnRevoked(f func(c *Consumer, partitions []TopicPartition)) ConsumerOption {
	return func(cfg *consumerConfig) { cfg.onRevoked = f }
}

// WithOnLost has f called with partitions that somebody else may read already: the
// group has given the consumer up, or has refused a commit.
func WithOnLost(f func(c *Consumer, partitions []TopicPartition)) ConsumerOption {
	return func(cfg *consumerConfig) { cfg.onLost = f }
}

// WithManualAssignment makes a consumer of a group take all partitions of its
// topics at once, from whoever had them, instead of the share that the group gives
// it. In one group either all members do so or none.
func WithManualAssignment() ConsumerOption { return func(c *consumerConfig) { c.manual = true } }

// WithPartitions assigns these partitions of a topic: with a group they are taken
// from whoever had them, see WithManualAssignment. A topic without it is read
// whole.
func WithPartitions(topic string, partitions ...int32) ConsumerOption {
	return func(c *consumerConfig) {
		if c.partitions == nil {
			c.partitions = make(map[string][]int32)
		}
		c.partitions[topic] = append(c.partitions[topic], partitions...)
	}
}

// WithAssignment assigns partitions of several topics, see WithPartitions.
func WithAssignment(partitions map[string][]int32) ConsumerOption {
	return func(c *consumerConfig) {
		for topic, p := range partitions {
			WithPartitions(topic, p...)(c)
		}
	}
}

// WithMaxPollRecords bounds the records of one Batch. Default 500.
func WithMaxPollRecords(n int) ConsumerOption { return func(c *consumerConfig) { c.maxRecords = n } }

// WithPrefetch bounds, roughly, the bytes that are fetched ahead of Poll over
// all partitions. Default 16 MiB.
func WithPrefetch(bytes int) ConsumerOption {
	return func(c *consumerConfig) { c.prefetchBytes = bytes }
}
