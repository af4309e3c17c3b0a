// Package meddle is an operator and a stranger at once: a client that asks for
// everything that can be asked for, in every way that the contract rules out as
// well, and holds every answer against what may be answered.
//
// What it does it does on topics, groups and transactional ids of its own, one
// request after the other, so that it knows exactly what must be there. It is one
// process of a simulated cluster next to the workloads that do everything right,
// whose checkers must not notice it.
//
//	meddler.go       what it works with; one act after the other
//	calls.go         requests to whoever leads, and what may be answered
//	ground.go        topics of its own: what was written, and what must be read
//	producers.go     producers and transactions by hand
//	reading.go       everything on every read path
//	topics.go        acts: topics that come and go, also under those who use them
//	transactions.go  acts: transactions and every end that they can have
//	prepared.go      acts: transactions that wait for the word of another system
//	sequences.go     acts: sequences with gaps, overlaps and repetitions
//	groups.go        acts: groups, members and positions
//	operators.go     acts: what operators list, describe, abort, fence and delete
//	strangers.go     acts: forged and wrong requests to every service
//	peers.go         acts: what no node would send to another
//	proposals.go     acts: commands for which there is no request yet
//	limits.go        acts: as much of everything as there may be
//	sdk.go           acts: the same through the SDK
//
// # Answers
//
// Whatever is asked, the answer may be that the node does not lead, cannot reach
// others, is overloaded, or does not know what became of the request. Everything
// else must be named at the request. An answer that is not, and INTERNAL in any
// case, is a violation, and so is an answer to a wrong request that is OK.
//
// A request whose answer was lost may be carried out later, and where the network
// repeats requests every one may. What may be answered only then is marked as
// such.
package meddle
