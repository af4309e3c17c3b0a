package group

func (m *Machine) commitOffsets(cat Catalog, cmd CommitOffsets) Result {
	commits := []Commit{cmd.Commit}
	if r := m.CheckCommits(cat, TxnRef{}, commits); !r.OK() {
		return Result{Refusal: r}
	}
	return Result{Changed: m.ApplyCommits(cmd.At, TxnRef{}, commits)}
}

// CheckCommits reports whether the commits may be applied now, all of them. It
// changes nothing. by is the transaction that carries them; zero: none.
func (m *Machine) CheckCommits(cat Catalog, by TxnRef, commits []Commit) Refusal {
	if len(commits) > MaxCommits {
		return limit("", len(commits), MaxCommits)
	}
	total := 0
	for i := range commits {
		total += len(commits[i].Entries)
		if total > MaxPartitions {
			return limit(commits[i].Group, total, MaxPartitions)
		}
		if r := checkForm(cat, &commits[i]); !r.OK() {
			return r
		}
		if r := m.roomForGroup(commits[i].Group, len(commits)); !r.OK() {
			return r
		}
	}
	if r := checkDuplicates(commits); !r.OK() {
		return r
	}
	if total > 0 && m.offsets+m.held >= MaxOffsets {
		return limit("", m.offsets+m.held+1, MaxOffsets)
	}
	for i := range commits {
		if r := m.checkStanding(by, &commits[i]); !r.OK() {
			return r
		}
	}
	return Refusal{}
}

// ApplyCommits moves the offsets and reports whether there were any. The
// caller got OK from [Machine.CheckCommits] for the same arguments in the same
// command; at is the command's time.
func (m *Machine) ApplyCommits(at int64, by TxnRef, commits []Commit) (moved bool) {
	m.advance(at)
	for i := range commits {
		c := &commits[i]
		if len(c.Entries) == 0 {
			continue // makes no group
		}
		moved = true
		g := m.ensure(c.Group)
		for _, e := range c.Entries {
			m.setOffset(g, e.Partition, Offset{
				Next: e.Offset, Metadata: e.Metadata, CommittedAt: m.now, Member: c.Member, Txn: by,
			})
		}
	}
	return moved
}

// checkForm checks what does not depend on the state of the group.
func checkForm(cat Catalog, c *Commit) Refusal {
	switch {
	case !validGroup(c.Group):
		return refuse(CodeInvalidGroup, c.Group)
	case len(c.Member) > MaxMemberIDBytes:
		return refuse(CodeInvalidMember, c.Group)
	}
	return checkEntries(cat, c.Group, c.Entries)
}

func checkEntries(cat Catalog, group string, entries []Entry) Refusal {
	for i := range entries {
		e := &entries[i]
		if len(e.Metadata) > MaxMetadataBytes {
			return Refusal{
				Code: CodeMetadataTooLarge, Group: group, Partition: e.Partition,
				Need: uint64(len(e.Metadata)), Have: MaxMetadataBytes,
			}
		}
		if cat == nil || !cat.HasPartition(e.Partition) {
			return Refusal{Code: CodeUnknownPartition, Group: group, Partition: e.Partition}
		}
	}
	return Refusal{}
}

// checkDuplicates looks for a partition that appears twice in commits of one
// group: which of the two offsets should hold? Two members of a group may
// commit in one transaction, each its own partitions.
func checkDuplicates(commits []Commit) Refusal {
	type key struct {
		group     string
		partition uint64
	}
	seen := map[key]bool{}
	for i := range commits {
		for _, e := range commits[i].Entries {
			k := key{commits[i].Group, e.Partition}
			if seen[k] {
				return Refusal{Code: CodeDuplicatePartition, Group: k.group, Partition: e.Partition}
			}
			seen[k] = true
		}
	}
	return Refusal{}
}

// checkStanding is the commit check of the package comment.
func (m *Machine) checkStanding(by TxnRef, c *Commit) Refusal {
	g := m.groups[c.Group]
	for i := range c.Entries {
		e := &c.Entries[i]
		stale := Refusal{Code: CodeStaleMember, Group: c.Group, Partition: e.Partition}
		var owner ownership
		var committed Offset
		var has bool
		var generation uint64
		if g != nil {
			owner = g.owners[e.Partition]
			committed, has = g.offsets[e.Partition]
			generation = g.generation
		}
		// Before ownership: what a member did while it owned the partition holds, and
		// whoever asks again because the answer was lost must be told so.
		if repeats(by, c, e, committed, has) {
			continue
		}
		stale.Owner = owner.member
		if owner.member != c.Member { // no owner is the owner of a commit without a member
			stale.Reason = ReasonNotOwner
			return stale
		}
		if c.Member != "" && (owner.since > c.Generation || c.Generation > generation) {
			stale.Reason, stale.Need, stale.Have = ReasonGeneration, c.Generation, owner.since
			return stale
		}
		// Where the position will be is not known, so this is not what it was not.
		if g != nil {
			if _, held := g.held[e.Partition]; held {
				return heldRefusal(c.Group, e.Partition)
			}
		}
		if !expects(c, e, committed, has) {
			stale.Reason, stale.Committed, stale.HasCommitted = ReasonOffsetMoved, committed.Next, has
			return stale
		}
	}
	return Refusal{}
}

// expects reports whether the committed offset is the one the member knew.
func expects(c *Commit, e *Entry, committed Offset, has bool) bool {
	if !e.HasExpected {
		return !has || c.Member == ""
	}
	return has && committed.Next == e.Expected
}

// repeats reports whether the entry was applied before and its answer lost: a
// plain commit of this very member is what holds. Not in a transaction: there
// the records up to this offset would be consumed by two of them.
func repeats(by TxnRef, c *Commit, e *Entry, committed Offset, has bool) bool {
	return by == TxnRef{} && c.Member != "" && has && committed.Txn == TxnRef{} &&
		committed.Member == c.Member && committed.Next == e.Offset && committed.Metadata == e.Metadata
}
