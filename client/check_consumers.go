package client

import (
	"fmt"
	"strings"
	"time"
)

func (a *appCheck) consumer(c *AppConsumer) {
	what := "group " + c.Group
	if c.Group == "" {
		what = "consumer of " + strings.Join(c.Topics, ", ")
	}
	cfg := defaultConsumerConfig()
	cfg.sessionTimeout, cfg.rebalanceTimeout = or(c.SessionTimeout, cfg.sessionTimeout), or(c.RebalanceTimeout, cfg.rebalanceTimeout)
	cfg.maxPollInterval, cfg.instanceID = or(c.MaxPollInterval, cfg.maxPollInterval), c.InstanceID
	if err := cfg.check("configure"); err != nil {
		a.invalid(what, "%v", err)
		return
	}
	if len(c.Topics) == 0 || len(c.Group) > maxNameBytes {
		a.invalid(what, "a consumer needs topics, and a group of at most %d bytes", maxNameBytes)
	}
	switch c.Isolation {
	case "", "read_committed":
	case "read_uncommitted":
		a.find(Broken, "READ_UNCOMMITTED", what,
			"Records of transactions that are aborted later are processed, and their repetitions, too.",
			"read_uncommitted shows what is durable, whatever becomes of its transaction.",
			"Leave the isolation level out: read_committed is the default.")
	default:
		a.invalid(what, "isolation %q: read_committed or read_uncommitted", c.Isolation)
	}
	a.offsets(what, c)
	a.instances(what, c)
	a.times(what, c, &cfg)
}

// offsets checks that positions move with the result.
func (a *appCheck) offsets(what string, c *AppConsumer) {
	p := a.producers[c.Producer]
	if c.Producer != "" && p == nil {
		a.invalid(what, "there is no producer %q", c.Producer)
		return
	}
	const twice = "Positions and result are two steps: after a crash between them the records are processed again, and what they led to is there twice, or is missing."
	switch c.Offsets {
	case OffsetsTransaction:
		switch {
		case p == nil || p.TransactionalID == "":
			a.invalid(what, "its positions are said to be in a transaction, and it names no producer with a transactional id")
		case c.Group == "":
			a.invalid(what, "its positions are said to be in a transaction, and it has no group to keep them")
		}
	case OffsetsCommit, "":
		if p != nil && p.TransactionalID != "" {
			a.find(Broken, "OFFSETS_OUTSIDE", what, twice,
				fmt.Sprintf("The result is in transactions of producer %s, and the positions are committed beside them.", p.Name),
				"Use client.Process, or SendOffsets in the transaction.")
		} else if p != nil {
			a.find(Broken, "OFFSETS_OUTSIDE", what, twice,
				fmt.Sprintf("Producer %s has no transactional id, so nothing can hold the two together.", p.Name),
				"Give the producer a transactional id, and use client.Process.")
		}
	case OffsetsStore:
		if p != nil {
			a.find(Broken, "TWO_RESULTS", what, twice,
				fmt.Sprintf("The positions are in a store, and producer %s writes what the records lead to, in another step.", p.Name),
				"Write to the store only, or to topics only; a sink can take the rest into the store.")
		}
	case OffsetsNone:
		a.find(Warning, "NO_OFFSETS", what,
			"Every start begins at the same place, so records are processed again, or passed over.",
			"No positions are kept.",
			"Give the consumer a group, unless reading everything again is what is wanted.")
	default:
		a.invalid(what, "offsets %q: %s, %s, %s or %s", c.Offsets, OffsetsTransaction, OffsetsCommit, OffsetsStore, OffsetsNone)
	}
}

// instances checks what differs, or has to, between the copies of a program.
func (a *appCheck) instances(what string, c *AppConsumer) {
	if strings.Contains(c.InstanceID, placeRandom) {
		a.find(Warning, "RANDOM_INSTANCE_ID", what,
			"Every restart is a new member, whose partitions stay with the old one until its session is over.",
			"A static member is recognised by its id, and this one is new at every start.",
			"Use "+placeInstance+" in the id, or leave the id out.")
	}
	if a.app.Instances < 2 {
		return
	}
	if c.InstanceID != "" && !strings.Contains(c.InstanceID, placeInstance) && !strings.Contains(c.InstanceID, placeRandom) {
		a.find(Broken, "SHARED_INSTANCE_ID", what,
			"Each instance takes the place of the other, which ends with FENCED_INSTANCE_ID.",
			fmt.Sprintf("%d instances use the group instance id %q.", a.app.Instances, c.InstanceID),
			"Put "+placeInstance+" into the id.")
	}
	if c.Manual && c.Group != "" {
		a.find(Warning, "MANUAL_ASSIGNMENT", what,
			"Instances that name the same partitions take them from each other, and the loser ends with STALE_MEMBER.",
			"A manual assignment takes partitions from whoever had them; nobody but the program shares them out.",
			"Have the instances name different partitions, or let the group share them out.")
	}
}

// times checks that timeouts end things in the right order.
func (a *appCheck) times(what string, c *AppConsumer, cfg *consumerConfig) {
	p := a.producers[c.Producer]
	if c.Processing > 0 && p != nil && p.TransactionalID != "" {
		timeout := or(p.TransactionTimeout, defaultProducerConfig().timeout)
		switch {
		case c.Processing >= timeout:
			a.find(Broken, "TRANSACTION_TIMEOUT", what,
				"Batches that take long are aborted, read again and aborted again, without an end.",
				fmt.Sprintf("A batch takes up to %v, and a transaction of producer %s lasts %v at most.", c.Processing, p.Name, timeout),
				"Have smaller batches (WithMaxPollRecords), or a longer transaction timeout.")
		case 2*c.Processing > timeout:
			a.find(Warning, "TRANSACTION_TIMEOUT", what,
				"A slow moment of a node or of the program has batches aborted and processed again.",
				fmt.Sprintf("A batch takes up to %v of the %v that a transaction of producer %s may last.", c.Processing, timeout, p.Name),
				"Leave at least half of the timeout for bad times.")
		}
	}
	if c.Group == "" || c.Manual {
		return
	}
	if c.Processing >= cfg.maxPollInterval {
		a.find(Broken, "MAX_POLL_INTERVAL", what,
			"The consumer leaves the group in the middle of a batch, whose commit is then refused; its next owner begins again.",
			fmt.Sprintf("A batch takes up to %v, and after %v without a Poll a consumer counts as gone.", c.Processing, cfg.maxPollInterval),
			"Have smaller batches (WithMaxPollRecords), or a longer max poll interval.")
	}
	if cfg.sessionTimeout < 3*time.Second {
		a.find(Notice, "SHORT_SESSION", what,
			"A pause of the program or of the network is taken for its death, and its partitions move.",
			fmt.Sprintf("The session timeout is %v.", cfg.sessionTimeout),
			"Have a longer one; a program that is stopped in order gives its partitions up at once anyway.")
	}
	if cfg.sessionTimeout > cfg.maxPollInterval {
		a.find(Notice, "SESSION_ABOVE_POLL", what,
			"A program that has died is noticed later than one that hangs.",
			fmt.Sprintf("The session timeout is %v, the max poll interval %v.", cfg.sessionTimeout, cfg.maxPollInterval),
			"Have the session timeout below the max poll interval.")
	}
}

// groups checks that consumers of one group are of one kind.
func (a *appCheck) groups() {
	first := map[string]*AppConsumer{}
	for i := range a.app.Consumers {
		c := &a.app.Consumers[i]
		if c.Group == "" {
			continue
		}
		other := first[c.Group]
		if other == nil {
			first[c.Group] = c
			continue
		}
		if other.Manual != c.Manual {
			a.find(Broken, "INCONSISTENT_GROUP_PROTOCOL", "group "+c.Group,
				"The second consumer that joins is refused.",
				"In one group either all members subscribe or all name their partitions.",
				"Use two groups.")
		}
	}
}
