package workload

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/history"
)

// Kind is what a client does.
type Kind string

// Kinds.
const (
	// Append writes transactions over several partitions.
	Append Kind = "append"
	// Transfer moves amounts between partitions: every transaction's sum is 0.
	Transfer Kind = "transfer"
	// Process reads, and writes what it has read to another topic, exactly once.
	Process Kind = "process"
	// Plain writes records without transactions.
	Plain Kind = "plain"
	// Read reads a topic over and over, without a group.
	Read Kind = "read"
	// Follow reads a topic as a member of a group that commits its positions
	// without transactions.
	Follow Kind = "follow"
	// Operate aborts and fences what others have under way, and looks at positions,
	// as an operator.
	Operate Kind = "operate"
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Append, Transfer, Process, Plain, Read, Follow, Operate} }

// Topic is a topic with its number of partitions.
type Topic struct {
	Name       string `json:"name"`
	Partitions int32  `json:"partitions"`
}

// Share is a probability, 0 to 1.
type Share float64

// Config describes the work of one client. It can be written as JSON. Zero values
// mean what they say, or the stated default.
type Config struct {
	Kind Kind `json:"kind"`
	// Client is the client's number in the history, from 1. Every Run is a new
	// incarnation of it.
	Client uint32 `json:"client"`
	// IDs are the transactional ids that Append, Transfer and Process draw from at
	// every InitTransactions, and that Operate interferes with. Clients that share
	// ids take them from each other.
	IDs []string `json:"ids,omitempty"`
	// PerInit is the number of transactions after which a client calls
	// InitTransactions again. 0: when it has to.
	PerInit int `json:"per_init,omitempty"`

	// Output is where Append, Transfer, Process and Plain write.
	Output Topic `json:"output,omitzero"`
	// Input is what Process, Read and Follow read; of Group, for Operate.
	Input Topic `json:"input,omitzero"`
	// Assigned are the partitions of Input to read. Empty: all.
	Assigned []int32 `json:"assigned,omitempty"`
	// Trimmed says that retention may remove records of Input before they are read.
	Trimmed bool `json:"trimmed,omitempty"`
	// Subscribe makes Process and Follow members that the group gives partitions to;
	// Assigned and Steals are not used then.
	Subscribe bool `json:"subscribe,omitempty"`
	// Instance makes them static members of that id.
	Instance string `json:"instance,omitempty"`
	// Range makes them ask for the range assignor instead of the sticky one.
	Range bool `json:"range,omitempty"`
	// Session is their session timeout, and MaxPoll their max poll interval. Defaults
	// 3 s, and the SDK's.
	Session time.Duration `json:"session,omitempty"`
	MaxPoll time.Duration `json:"max_poll,omitempty"`
	// Group is the consumer group of Process and Follow, and one that Operate asks
	// about.
	Group string `json:"group,omitempty"`
	// Uncommitted makes Read read what is not committed, too.
	Uncommitted bool `json:"uncommitted,omitempty"`

	// MaxPartitions is the largest number of partitions in a transaction. Default 3.
	MaxPartitions int `json:"max_partitions,omitempty"`
	// MaxRecords is the largest number of records per partition in a transaction, and
	// of a Poll. Default 3; of a Poll 20.
	MaxRecords int `json:"max_records,omitempty"`
	// Keys is how many keys the records of Output have, see [history.Value.Key]. 0: they
	// have none.
	Keys int `json:"keys,omitempty"`
	// Pad is the largest size in bytes of some of the values. 0: all are small.
	Pad int `json:"pad,omitempty"`
	// Think is the mean pause between two transactions, or two Polls of Read.
	// Default 20 ms.
	Think time.Duration `json:"think,omitempty"`

	// Aborts is the share of transactions that the client itself aborts.
	Aborts Share `json:"aborts,omitempty"`
	// Flushes is the share of transactions that are flushed before their commit.
	Flushes Share `json:"flushes,omitempty"`
	// Overtime is the share of transactions that are held open longer than their
	// timeout.
	Overtime Share `json:"overtime,omitempty"`
	// Asks is the share of transactions after which the outcome of an earlier one is
	// asked for.
	Asks Share `json:"asks,omitempty"`
	// Gaps is the share of commits without an answer after which the client gives up
	// and begins anew, and lets InitTransactions settle it.
	Gaps Share `json:"gaps,omitempty"`
	// Hurries is the share of commits that the client gives hardly any time, at most
	// Hurry (default 40 ms), and asks for again or gives up like any that got no
	// answer: applications whose callers do not wait.
	Hurries Share         `json:"hurries,omitempty"`
	Hurry   time.Duration `json:"hurry,omitempty"`
	// Restarts is the share of Polls after which a consumer begins anew: Read at the
	// start or anywhere, Process and Follow where the group stands.
	Restarts Share `json:"restarts,omitempty"`
	// Steals is the share of restarts at which a member takes all partitions of
	// Input, whoever has them. It gives those that are not its own up at the next.
	Steals Share `json:"steals,omitempty"`

	// TransactionTimeout is the producers' timeout. Default 5 s.
	TransactionTimeout time.Duration `json:"transaction_timeout,omitempty"`
	// DeliveryTimeout is the producers' delivery timeout. Default 10 s.
	DeliveryTimeout time.Duration `json:"delivery_timeout,omitempty"`
	// CallTimeout bounds every call. Default 10 s.
	CallTimeout time.Duration `json:"call_timeout,omitempty"`
	// MaxInFlight is the producers' number of batches under way per partition.
	// Default: the SDK's.
	MaxInFlight int `json:"max_in_flight,omitempty"`
	// Transactions ends the client after so many. 0: no end.
	Transactions int `json:"transactions,omitempty"`
}

// Limits of a configuration.
const (
	maxPartitions = 64
	maxRecords    = 1000
)

// check fills defaults in and refuses what cannot work.
func (c *Config) check() error {
	setDefault(&c.MaxPartitions, 3)
	setDefault(&c.MaxRecords, 3)
	setDefault(&c.Think, 20*time.Millisecond)
	setDefault(&c.TransactionTimeout, 5*time.Second)
	setDefault(&c.DeliveryTimeout, 10*time.Second)
	setDefault(&c.CallTimeout, 10*time.Second)
	setDefault(&c.Hurry, 40*time.Millisecond)
	setDefault(&c.Session, 3*time.Second)
	setDefault(&c.MaxPoll, 5*time.Minute)
	switch {
	case !slices.Contains(Kinds(), c.Kind):
		return fmt.Errorf("no kind of workload %q", c.Kind)
	case c.Client == 0:
		return errors.New("a client without a number")
	case (c.transactional() || c.Kind == Operate) && len(c.IDs) == 0:
		return fmt.Errorf("client %d: no transactional id", c.Client)
	case c.writes() && (c.Output.Name == "" || c.Output.Partitions < 1):
		return fmt.Errorf("client %d: no topic to write to", c.Client)
	case c.Kind == Transfer && c.Output.Partitions < 2:
		return fmt.Errorf("client %d: a transfer needs two partitions", c.Client)
	case c.reads() && (c.Input.Name == "" || c.Input.Partitions < 1):
		return fmt.Errorf("client %d: no topic to read", c.Client)
	case (c.Kind == Process || c.Kind == Follow) && c.Group == "":
		return fmt.Errorf("client %d: no group", c.Client)
	case c.MaxPartitions < 1 || c.MaxPartitions > maxPartitions || c.MaxRecords < 1 || c.MaxRecords > maxRecords:
		return fmt.Errorf("client %d: at most %d partitions and %d records", c.Client, maxPartitions, maxRecords)
	case c.Subscribe && c.Kind != Process && c.Kind != Follow:
		return fmt.Errorf("client %d: only members of groups subscribe", c.Client)
	case c.Pad < 0 || c.Pad > history.MaxValue:
		return fmt.Errorf("client %d: a pad of %d bytes: 0 to %d", c.Client, c.Pad, history.MaxValue)
	case slices.ContainsFunc(c.Assigned, func(p int32) bool { return p < 0 || p >= c.Input.Partitions }):
		return fmt.Errorf("client %d: partitions %v of %d", c.Client, c.Assigned, c.Input.Partitions)
	}
	for _, s := range []Share{c.Aborts, c.Flushes, c.Overtime, c.Asks, c.Gaps, c.Hurries, c.Restarts, c.Steals} {
		if s < 0 || s > 1 {
			return fmt.Errorf("client %d: a share of %v: 0 to 1", c.Client, s)
		}
	}
	return nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (c *Config) transactional() bool {
	return c.Kind == Append || c.Kind == Transfer || c.Kind == Process
}
func (c *Config) writes() bool { return c.transactional() || c.Kind == Plain }
func (c *Config) reads() bool {
	return c.Kind == Process || c.Kind == Read || c.Kind == Follow
}

// assigned returns the partitions of Input that are the client's own.
func (c *Config) assigned() []int32 {
	if len(c.Assigned) > 0 {
		return c.Assigned
	}
	return c.all()
}

// all returns all partitions of Input.
func (c *Config) all() []int32 {
	out := make([]int32, c.Input.Partitions)
	for i := range out {
		out[i] = int32(i)
	}
	return out
}
