package txn

// WithinLimits tells whether the lengths and counts in c are within the limits
// of the encoding, such as [MaxItems]. What is within them can still be refused
// by the machine, with a reason.
func WithinLimits(c Command) bool { return c.withinLimits() }

func (c InitProducer) withinLimits() bool {
	return len(c.TransactionalID) <= MaxTextLength && len(c.Owner) <= MaxTextLength &&
		len(c.ClientHost) <= MaxTextLength && legalTime(c.Timeout)
}

func (AllocateProducerIDs) withinLimits() bool { return true }

func (c Enlist) withinLimits() bool {
	for _, item := range c.Items {
		if len(item.Partitions) > MaxPartitions || !legalTime(item.Age) {
			return false
		}
	}
	return len(c.Items) <= MaxItems
}

func (c PrepareTransaction) withinLimits() bool { return c.asCommit().withinLimits() }

func (CompletePrepared) withinLimits() bool { return true }

func (c EndTransaction) withinLimits() bool {
	for _, pt := range c.Participants {
		if len(pt.Progress) > MaxPartitions {
			return false
		}
	}
	return len(c.Participants) <= MaxItems && len(c.OffsetsPayload) <= MaxOffsetsPayload
}

func (c Expire) withinLimits() bool { return len(c.Refs) <= MaxItems }

func (c MarkersApplied) withinLimits() bool {
	for _, item := range c.Items {
		if !item.Answer.legal() {
			return false
		}
	}
	return len(c.Items) <= MaxItems
}

func (AbortTransaction) withinLimits() bool { return true }

func (c FenceProducer) withinLimits() bool { return len(c.TransactionalID) <= MaxTextLength }

func (c DeleteID) withinLimits() bool { return len(c.TransactionalID) <= MaxTextLength }

func (c ExpireIDs) withinLimits() bool { return len(c.ProducerIDs) <= MaxItems }

// legalTime tells whether a time or a span can be encoded. Deadlines lie a
// timeout beyond maxTime at most, hence the factor.
func legalTime(v Millis) bool { return v >= -2*maxTime && v <= 2*maxTime }

func (a MarkerAnswer) legal() bool { return a >= MarkerApplied && a <= lastMarkerAnswer }
