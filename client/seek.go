package client

// Position returns, per partition, the offset that the next Poll begins with.
func (k *Consumer) Position() Offsets {
	k.mu.Lock()
	defer k.mu.Unlock()
	o := make(Offsets, len(k.readers))
	for _, r := range k.readers {
		o[r.tp] = r.position
	}
	return o
}

// Seek moves positions; partitions that are not assigned are ignored. What is
// committed does not change. A transaction that was given a batch before and is
// aborted after takes the position back to that batch all the same.
func (k *Consumer) Seek(o Offsets) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.readers {
		if offset, ok := o[r.tp]; ok {
			r.moveTo(max(offset, 0))
		}
	}
}

// Pause makes Poll return nothing of partitions until Resume; those that are not
// assigned are ignored. A partition that is assigned anew is not paused.
func (k *Consumer) Pause(partitions ...TopicPartition) { k.setPaused(true, partitions) }

// Resume ends Pause.
func (k *Consumer) Resume(partitions ...TopicPartition) { k.setPaused(false, partitions) }

func (k *Consumer) setPaused(paused bool, partitions []TopicPartition) {
	k.mu.Lock()
	for _, tp := range partitions {
		if r := k.byKey[tp]; r != nil {
			r.paused = paused
		}
	}
	k.mu.Unlock()
	k.signal()
}

// Paused returns the partitions that are paused, sorted.
func (k *Consumer) Paused() []TopicPartition {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []TopicPartition
	for _, r := range k.readers {
		if r.paused {
			out = append(out, r.tp)
		}
	}
	return out
}
