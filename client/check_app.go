package client

import "time"

// Application describes a program to CheckConfig: what it reads, writes and does
// besides. It says what the program is meant to do; nothing is connected to. The tags
// are the names in the file that `oncelog doctor --app` reads.
type Application struct {
	// Name, for people.
	Name string `yaml:"name" json:"name"`
	// Instances is how many copies of the program run at a time. 0: one.
	Instances int `yaml:"instances" json:"instances"`
	// Producers, Consumers and Effects, at most 1,000 of each.
	Producers []AppProducer `yaml:"producers" json:"producers"`
	Consumers []AppConsumer `yaml:"consumers" json:"consumers"`
	Effects   []AppEffect   `yaml:"effects" json:"effects"`
}

// AppProducer is a producer of an application. A duration of 0 is the package's
// default.
type AppProducer struct {
	// Name by which consumers and effects refer to it.
	Name string `yaml:"name" json:"name"`
	// TransactionalID is the argument of InitTransactions; "": an IdempotentProducer.
	// What differs between instances and stays over restarts is written {instance};
	// what is new at every start is written {random}.
	TransactionalID string `yaml:"transactional_id" json:"transactional_id"`
	// TransactionTimeout is WithTransactionTimeout, DeliveryTimeout WithDeliveryTimeout.
	TransactionTimeout time.Duration `yaml:"transaction_timeout" json:"transaction_timeout"`
	DeliveryTimeout    time.Duration `yaml:"delivery_timeout" json:"delivery_timeout"`
	// RequestTimeout is WithRequestTimeout of its client.
	RequestTimeout time.Duration `yaml:"request_timeout" json:"request_timeout"`
}

// Where an application keeps the positions of a consumer.
const (
	// OffsetsTransaction: in the producer's transaction, by Process or SendOffsets.
	OffsetsTransaction = "transaction"
	// OffsetsCommit: with Consumer.Commit.
	OffsetsCommit = "commit"
	// OffsetsStore: in an external store, in one transaction with the result, as
	// package client/sink does.
	OffsetsStore = "store"
	// OffsetsNone: nowhere.
	OffsetsNone = "none"
)

// AppConsumer is a consumer of an application.
type AppConsumer struct {
	// Group, "" for none; Topics that it reads.
	Group  string   `yaml:"group" json:"group"`
	Topics []string `yaml:"topics" json:"topics"`
	// Isolation is "read_committed", which "" is too, or "read_uncommitted".
	Isolation string `yaml:"isolation" json:"isolation"`
	// Offsets is one of the constants above; "" is OffsetsCommit.
	Offsets string `yaml:"offsets" json:"offsets"`
	// Producer is the name of the one that writes what the records lead to; "": none.
	Producer string `yaml:"producer" json:"producer"`
	// InstanceID is WithGroupInstanceID, with {instance} and {random} as above.
	InstanceID string `yaml:"instance_id" json:"instance_id"`
	// Manual says that WithManualAssignment, WithPartitions or WithAssignment is used.
	Manual bool `yaml:"manual" json:"manual"`
	// Processing is the longest that the work on one batch takes; 0: not known.
	Processing time.Duration `yaml:"processing" json:"processing"`
	// SessionTimeout, RebalanceTimeout and MaxPollInterval are the options of that
	// name; 0: the default.
	SessionTimeout   time.Duration `yaml:"session_timeout" json:"session_timeout"`
	RebalanceTimeout time.Duration `yaml:"rebalance_timeout" json:"rebalance_timeout"`
	MaxPollInterval  time.Duration `yaml:"max_poll_interval" json:"max_poll_interval"`
}

// How an effect on something else than topics is kept from happening twice.
const (
	// EffectStore: in one transaction of its store with the consumer's positions.
	EffectStore = "store"
	// EffectIdempotent: doing it again changes nothing.
	EffectIdempotent = "idempotent"
	// EffectPlain: not at all.
	EffectPlain = "plain"
)

// AppEffect is something that an application does besides writing to topics: rows in a
// database, a call, a mail, a file.
type AppEffect struct {
	// Name, for people.
	Name string `yaml:"name" json:"name"`
	// Kind is one of the constants above; "" is EffectPlain.
	Kind string `yaml:"kind" json:"kind"`
	// Group of the consumer whose records it is about; "": none.
	Group string `yaml:"group" json:"group"`
}

// Severity says how bad a finding is.
type Severity uint8

// Severities.
const (
	// Notice is worth knowing.
	Notice Severity = iota + 1
	// Warning: it goes wrong in circumstances that may never come.
	Warning
	// Broken: it is not exactly once, or does not work.
	Broken
)

// String returns the severity in one lower case word.
func (s Severity) String() string {
	switch s {
	case Notice:
		return "notice"
	case Warning:
		return "warning"
	case Broken:
		return "broken"
	default:
		return "unknown"
	}
}

// MarshalText returns the word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is something that is not as exactly-once processing needs it.
type Finding struct {
	// Severity says how bad it is.
	Severity Severity `json:"severity"`
	// Code is stable, such as "SHARED_TRANSACTIONAL_ID".
	Code string `json:"code"`
	// Subject is what it is about: "producer out", "group billing".
	Subject string `json:"subject"`
	// Breaks says what would go wrong, Why says why, Mend what to do.
	Breaks string `json:"breaks"`
	Why    string `json:"why"`
	Mend   string `json:"mend"`
}
