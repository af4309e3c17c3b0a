package group

import "strconv"

// Code says how a command was answered. The list is closed.
type Code uint8

// The codes. Every one but CodeOK means that nothing changed.
const (
	// CodeOK: done, or already so (see [Result.Changed]).
	CodeOK Code = iota
	// CodeInvalidCommand: not a command of this package.
	CodeInvalidCommand
	// CodeInvalidGroup: a group id that is empty or too long.
	CodeInvalidGroup
	// CodeInvalidMember: a member id that is empty where it may not be, or too
	// long, or what the member tells of itself is too long.
	CodeInvalidMember
	// CodeDuplicatePartition: Partition appears twice in one group's commits.
	CodeDuplicatePartition
	// CodeMetadataTooLarge: metadata of Partition of Need bytes, Have allowed.
	CodeMetadataTooLarge
	// CodeLimitExceeded: a limit; Need is the number it would take, Have the limit.
	CodeLimitExceeded
	// CodeUnknownGroup: no group with this id.
	CodeUnknownGroup
	// CodeUnknownMember: no member with this id in the group.
	CodeUnknownMember
	// CodeUnknownPartition: Partition is not in the catalogue.
	CodeUnknownPartition
	// CodeStaleMember: the commit check failed for Partition, see Reason.
	CodeStaleMember
	// CodeGroupNotEmpty: the group has members (Have).
	CodeGroupNotEmpty
	// CodePartitionOwned: Owner owns Partition, and the command does not force.
	CodePartitionOwned
	// CodeInvalidSubscription: no topics, a topic name that is empty or too long, a
	// timeout outside of its limits, or no such assignor.
	CodeInvalidSubscription
	// CodeMixedMembers: the group has members that subscribe, and this one names
	// its partitions, or the other way round.
	CodeMixedMembers
	// CodeFencedInstance: Owner has taken the place of this static member.
	CodeFencedInstance
	// CodeOffsetHeld: a prepared transaction is to move the offset of Partition.
	CodeOffsetHeld

	codeEnd // keep last
)

// String returns the code's stable name.
func (c Code) String() string {
	if c >= codeEnd {
		return "CODE_" + strconv.Itoa(int(c))
	}
	return [codeEnd]string{
		CodeOK:                  "OK",
		CodeInvalidCommand:      "INVALID_COMMAND",
		CodeInvalidGroup:        "INVALID_GROUP",
		CodeInvalidMember:       "INVALID_MEMBER",
		CodeDuplicatePartition:  "DUPLICATE_PARTITION",
		CodeMetadataTooLarge:    "METADATA_TOO_LARGE",
		CodeLimitExceeded:       "LIMIT_EXCEEDED",
		CodeUnknownGroup:        "UNKNOWN_GROUP",
		CodeUnknownMember:       "UNKNOWN_MEMBER",
		CodeUnknownPartition:    "UNKNOWN_PARTITION",
		CodeStaleMember:         "STALE_MEMBER",
		CodeGroupNotEmpty:       "GROUP_NOT_EMPTY",
		CodePartitionOwned:      "PARTITION_OWNED",
		CodeInvalidSubscription: "INVALID_SUBSCRIPTION",
		CodeMixedMembers:        "MIXED_MEMBERS",
		CodeFencedInstance:      "FENCED_INSTANCE",
		CodeOffsetHeld:          "OFFSET_HELD",
	}[c]
}

// Codes returns every code, in order, for tables that must cover them all.
func Codes() []Code {
	all := make([]Code, codeEnd)
	for i := range all {
		all[i] = Code(i)
	}
	return all
}

// Reason tells why a commit is stale. The list is closed.
type Reason uint8

// The reasons.
const (
	// ReasonNone: the code is not CodeStaleMember.
	ReasonNone Reason = iota
	// ReasonNotOwner: another member, Owner, owns the partition, or nobody does.
	ReasonNotOwner
	// ReasonGeneration: the member owns the partition only since a later
	// generation (Have) than the commit carries (Need), or the commit carries a
	// generation that the group has not reached.
	ReasonGeneration
	// ReasonOffsetMoved: the committed offset is another one than the member
	// knew; Committed and HasCommitted tell it.
	ReasonOffsetMoved

	reasonEnd // keep last
)

// String returns the reason's stable name.
func (r Reason) String() string {
	if r >= reasonEnd {
		return "REASON_" + strconv.Itoa(int(r))
	}
	return [reasonEnd]string{
		ReasonNone:        "NONE",
		ReasonNotOwner:    "NOT_OWNER",
		ReasonGeneration:  "GENERATION",
		ReasonOffsetMoved: "OFFSET_MOVED",
	}[r]
}

// Refusal tells what is wrong with a command. Its zero value means nothing.
type Refusal struct {
	Code   Code
	Reason Reason // of CodeStaleMember

	Group     string // the group in question
	Partition uint64 // the first partition at fault
	Owner     string // member that owns Partition, or has the instance id; empty: nobody
	// Committed is the committed offset of Partition, if HasCommitted.
	Committed    uint64
	HasCommitted bool
	// Need and Have are what the command brought or would take, and what there
	// is or is allowed. See the codes and reasons.
	Need, Have uint64
}

// OK reports whether nothing is refused.
func (r Refusal) OK() bool { return r.Code == CodeOK }

// PartitionOffset is the committed offset of a partition, if there is one.
type PartitionOffset struct {
	Partition uint64
	Committed bool // false: none; Offset is zero
	Offset    Offset
}

// Result is the answer to one command.
type Result struct {
	Refusal
	Changed bool // whether the state, besides its time, is another one than before
	// Generation of the group after commands of one member.
	Generation uint64
	// Offsets of the partitions of AssignPartitions, in the order given.
	Offsets []PartitionOffset
}

func refuse(code Code, group string) Refusal { return Refusal{Code: code, Group: group} }

func limit(group string, need, have int) Refusal {
	return Refusal{Code: CodeLimitExceeded, Group: group, Need: uint64(need), Have: uint64(have)}
}
