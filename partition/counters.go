package partition

import (
	"sync/atomic"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

// counters count what this node did since it started: as a leader, but for the last
// ones. They are written where an answer is given or taken, never inside of the state
// machine: that one does not know which replica it is, and applies the same entries
// again after a restart.
type counters struct {
	records, bytes atomic.Uint64 // appended
	verdicts       [int(pstate.CodeAppended) + 1]atomic.Uint64
	markers        [int(pstate.MarkerDropped) + 1]atomic.Uint64

	// fetchResponses are answers to readers; fetchedBytes are of the batches in them,
	// fetchedRecords of those and of plain records, hidden ones of batches included.
	fetchResponses, fetchedRecords, fetchedBytes atomic.Uint64

	enlistQueue    atomic.Int64 // written by the enlister
	enlistFailures atomic.Uint64
	enlistVerdicts [maxEnlistVerdict + 1]atomic.Uint64

	logStarts, relocatedBytes atomic.Uint64
	// compactions are passes that came to their end.
	compactions, compactedRecords, compactedBytes atomic.Uint64
	// heardAt is how long after its start the node was last answered a heartbeat, in
	// nanoseconds; 0: not yet.
	heardAt atomic.Int64
}

// maxEnlistVerdict is the highest answer to an enlistment that is counted by name.
const maxEnlistVerdict = int(oncelogv1.EnlistVerdict_ENLIST_VERDICT_THROTTLED)

// at returns the counter of a code; what is not in the list is counted as 0.
func at(list []atomic.Uint64, code int) *atomic.Uint64 {
	if code < 0 || code >= len(list) {
		code = 0
	}
	return &list[code]
}

// append counts one verdict on a batch.
func (c *counters) append(code pstate.Code, records, size uint32) {
	at(c.verdicts[:], int(code)).Add(1)
	if code == pstate.CodeAppended {
		c.records.Add(uint64(records))
		c.bytes.Add(uint64(size))
	}
}

func (c *counters) verdict(code pstate.Code) uint64 { return at(c.verdicts[:], int(code)).Load() }

func (c *counters) marker(code pstate.MarkerCode) { at(c.markers[:], int(code)).Add(1) }

func (c *counters) enlisted(answers []*oncelogv1.EnlistAnswer) {
	for _, a := range answers {
		at(c.enlistVerdicts[:], int(a.GetVerdict())).Add(1)
	}
}

// fetched counts one response to a reader.
func (c *counters) fetched(resp *oncelogv1.FetchResponse) {
	records, size := len(resp.GetRecords()), 0
	for _, b := range resp.GetBatches() {
		records += int(b.GetVisibleRecords())
		size += len(b.GetBatch())
	}
	c.fetchResponses.Add(1)
	c.fetchedRecords.Add(uint64(records))
	c.fetchedBytes.Add(uint64(size))
}
