package demo

// Kinds of event.
const (
	// kindReady: the worker has read its state back and begins.
	kindReady = "ready"
	// kindCommitted: a transaction was committed.
	kindCommitted = "committed"
	// kindHeld: a transaction is open, everything in it is durable, and the worker
	// waits before the commit.
	kindHeld = "held"
	// kindFenced: the worker's commit was refused because another has its
	// transactional id. It ends.
	kindFenced = "fenced"
	// kindFailed: the worker ends with an error.
	kindFailed = "failed"
)

// event is what a worker reports: a line of JSON on its standard output.
type event struct {
	Kind string `json:"kind"`
	// Transaction that the event is about.
	Transaction string `json:"transaction,omitempty"`
	// Read and Written are the records of the transaction; Restored those that
	// were read back at the start.
	Read     int `json:"read,omitempty"`
	Written  int `json:"written,omitempty"`
	Restored int `json:"restored,omitempty"`
	// Aborted counts the attempts before the one that was committed.
	Aborted int `json:"aborted,omitempty"`
	// Error says what went wrong.
	Error string `json:"error,omitempty"`
}

// What a worker is told: a word per line on its standard input. At the end of
// the input it stops.
const (
	// commandHold: in the next transaction, stop before the commit and report.
	commandHold = "hold"
	// commandGo: go on; and forget a hold that has not taken place yet.
	commandGo = "go"
)
