package txn

// Code is the answer to a command in one word. The zero value is no answer.
type Code uint8

// The answers. What a client should do next (its class) is decided where codes
// become errors on the wire.
const (
	// CodeOK: done as asked, now or by an earlier copy of the command.
	CodeOK Code = iota + 1
	// CodeUnknownID: no transactional id, or none with this producer id.
	CodeUnknownID
	// CodeFenced: the epoch is older than the current one, and the transaction
	// asked about, if any, was surely never committed.
	CodeFenced
	// CodeConflict: the transaction was decided the other way before.
	CodeConflict
	// CodeForgotten: the number is used up, in this epoch or an older one, and
	// what was decided, if anything, is no longer known. It may be a commit.
	CodeForgotten
	// CodeInvalid: the request can never be right; [Problem] says why.
	CodeInvalid
	// CodeUnsettledSends: shards hold records that the commit does not name.
	CodeUnsettledSends
	// CodeStaleMember: the consumer group refuses the offsets.
	CodeStaleMember
	// CodeThrottled: too many unfinished transactions of this id; try later.
	CodeThrottled
	// CodePreparedExists: a transaction of the id is prepared, and only
	// [CompletePrepared] or a forced abort ends it.
	CodePreparedExists
	// CodeNotDue: the deadline, or the time of expiry, has not come.
	CodeNotDue
	// CodeNotOpen: there is no such open transaction.
	CodeNotOpen
	// CodeIncomplete: transactions of the id still await acknowledgements.
	CodeIncomplete
	// CodeLimit: the machine holds as many transactional ids as it may.
	CodeLimit
	// CodeNotOwner: the transactional id belongs to another principal.
	CodeNotOwner

	lastCode = CodeNotOwner
)

// String returns the code in capitals, as people and metrics see it.
func (c Code) String() string {
	switch c {
	case CodeOK:
		return "OK"
	case CodeUnknownID:
		return "UNKNOWN_ID"
	case CodeFenced:
		return "FENCED"
	case CodeConflict:
		return "CONFLICT"
	case CodeForgotten:
		return "FORGOTTEN"
	case CodeInvalid:
		return "INVALID"
	case CodeUnsettledSends:
		return "UNSETTLED_SENDS"
	case CodeStaleMember:
		return "STALE_MEMBER"
	case CodeThrottled:
		return "THROTTLED"
	case CodePreparedExists:
		return "PREPARED_EXISTS"
	case CodeNotDue:
		return "NOT_DUE"
	case CodeNotOpen:
		return "NOT_OPEN"
	case CodeIncomplete:
		return "INCOMPLETE"
	case CodeLimit:
		return "LIMIT"
	case CodeNotOwner:
		return "NOT_OWNER"
	}
	return "CODE_UNKNOWN"
}

// Problem says what is wrong with a request that got [CodeInvalid].
type Problem uint8

// The problems. The zero value is none.
const (
	NoProblem Problem = iota
	// ProblemID: the transactional id is empty or too long.
	ProblemID
	// ProblemTimeout: the timeout is outside its limits.
	ProblemTimeout
	// ProblemRequestID: the request id is missing (all zero).
	ProblemRequestID
	// ProblemText: owner or client host is too long.
	ProblemText
	// ProblemEpochExhausted: the id has used every epoch; delete it.
	ProblemEpochExhausted
	// ProblemEpoch: the epoch is above the current one.
	ProblemEpoch
	// ProblemNumber: the transaction number is 0.
	ProblemNumber
	// ProblemTooMany: more participants, partitions or items than allowed.
	ProblemTooMany
	// ProblemDuplicate: a shard or partition is named twice.
	ProblemDuplicate
	// ProblemShard: the catalogue does not have this shard.
	ProblemShard
	// ProblemPartition: the shard does not have this partition.
	ProblemPartition
	// ProblemOffsets: the command carries offsets that cannot be understood.
	ProblemOffsets
	// ProblemNotPrepared: the transaction is undecided, and was never prepared.
	ProblemNotPrepared

	lastProblem = ProblemNotPrepared
)

// String returns the problem in plain words.
func (p Problem) String() string {
	switch p {
	case NoProblem:
		return "none"
	case ProblemID:
		return "transactional id is empty or too long"
	case ProblemTimeout:
		return "transaction timeout is outside its limits"
	case ProblemRequestID:
		return "request id is missing"
	case ProblemText:
		return "owner or client host is too long"
	case ProblemEpochExhausted:
		return "every epoch of the transactional id is used"
	case ProblemEpoch:
		return "epoch is above the current one"
	case ProblemNumber:
		return "transaction number is 0"
	case ProblemTooMany:
		return "too many participants, partitions or items"
	case ProblemDuplicate:
		return "a shard or partition is named twice"
	case ProblemShard:
		return "shard does not exist"
	case ProblemPartition:
		return "partition does not exist on the shard"
	case ProblemOffsets:
		return "offsets cannot be understood"
	case ProblemNotPrepared:
		return "the transaction is not prepared"
	}
	return "unknown problem"
}
