package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
)

// topicInfo is what workers know of a topic.
type topicInfo struct {
	id         uint64
	partitions int
}

// prepareTopics finds the topics that are read, creates internal ones, and checks
// that partitions fit.
func (a *App) prepareTopics(ctx context.Context) error {
	for _, g := range a.plan.Groups {
		for _, s := range g.Sources {
			if s.Internal {
				continue
			}
			if err := a.describe(ctx, s.Topic); err != nil {
				return fmt.Errorf("streams: input topic %s: %w", s.Topic, err)
			}
		}
	}
	for _, g := range a.inOrder() {
		count, err := a.partitionsOf(g)
		if err != nil {
			return err
		}
		for _, s := range g.Sources {
			if s.Internal {
				if err := a.ensure(ctx, s.Topic, count, nil); err != nil {
					return err
				}
			}
		}
		for _, s := range g.Stores {
			if !s.OfSource {
				if err := a.ensure(ctx, s.Topic, count, changelogConfig()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// inOrder returns the groups so that the number of partitions of what is before a
// group is known: a group is read before what it writes to. Groups that write to
// each other in a circle come last, as they are.
func (a *App) inOrder() (ordered []*engine.Group) {
	left := append([]*engine.Group(nil), a.plan.Groups...)
	done := map[*engine.Group]bool{}
	for len(left) > 0 {
		var later []*engine.Group
		for _, g := range left {
			ready := true
			for _, s := range g.Sources {
				if s.Internal && s.Partitions == 0 {
					from := a.plan.Groups[a.plan.GroupOf(s.From)]
					ready = ready && (done[from] || hasOwnCount(g))
				}
			}
			if !ready {
				later = append(later, g)
				continue
			}
			done[g] = true
			ordered = append(ordered, g)
		}
		if len(later) == len(left) {
			return append(ordered, later...)
		}
		left = later
	}
	return ordered
}

// hasOwnCount reports whether the number of partitions of a group does not follow
// from others.
func hasOwnCount(g *engine.Group) bool {
	for _, s := range g.Sources {
		if !s.Internal || s.Partitions > 0 {
			return true
		}
	}
	return false
}

// partitionsOf returns how many partitions all topics of a group have.
func (a *App) partitionsOf(g *engine.Group) (int, error) {
	count, by, before := 0, "", 0
	for _, s := range g.Sources {
		n := s.Partitions
		if !s.Internal {
			n = a.topic(s.Topic).partitions
		}
		if n == 0 {
			before = max(before, a.topic(s.From).partitions)
			continue
		}
		if count > 0 && n != count {
			return 0, fmt.Errorf("%w: %s has %d, and %s, which is read together with it, %d", ErrPartitions, by, count, s.Topic, n)
		}
		count, by = n, s.Topic
	}
	if count == 0 {
		count = before
	}
	if count == 0 {
		return 0, fmt.Errorf("%w: how many %s needs does not follow from anything: use WithPartitions", ErrPartitions, g.Sources[0].Topic)
	}
	return count, nil
}

func (a *App) describe(ctx context.Context, name string) error {
	t, err := a.c.Admin().DescribeTopic(ctx, name)
	if err != nil {
		return err
	}
	a.know(name, topicInfo{id: t.GetTopicId(), partitions: int(t.GetPartitionCount())})
	return nil
}

func (a *App) know(name string, t topicInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.topics[name] = t
}

// topic returns what is known of a topic; zero: nothing yet.
func (a *App) topic(name string) topicInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.topics[name]
}

// topicLimit bounds one try to create an internal topic, whose answer is held back
// until its partitions accept records, and how long one that exists may be unknown
// to some node.
const topicLimit = 10 * time.Second

// changelogConfig is how a changelog is kept: the newest record of each key.
func changelogConfig() *oncelogv1.TopicConfig {
	return &oncelogv1.TopicConfig{CleanupPolicy: oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT}
}

// ensure creates an internal topic, unless it is there. One that exists is kept as it
// is: whoever operates it may have said otherwise.
func (a *App) ensure(ctx context.Context, name string, partitions int, config *oncelogv1.TopicConfig) error {
	for {
		err := a.create(ctx, name, partitions, config)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("streams: internal topic %s: %w", name, err)
		}
	}
}

// create is one try of ensure.
func (a *App) create(ctx context.Context, name string, partitions int, config *oncelogv1.TopicConfig) error {
	ctx, cancel := a.rt.WithTimeout(ctx, topicLimit)
	defer cancel()
	t, err := a.c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: name, Partitions: uint32(partitions), Config: config})
	switch {
	case err == nil:
		a.know(name, topicInfo{id: t.GetTopicId(), partitions: partitions})
		a.cfg.logger.Info("created an internal topic", "topic", name, "partitions", partitions)
		return nil
	case apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_TOPIC_EXISTS:
		return err
	}
	for err = a.describe(ctx, name); err != nil; err = a.describe(ctx, name) {
		if unknown := apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC; !unknown || !a.rt.Sleep(pauseFirst, ctx.Done()) {
			return errors.Join(err, ctx.Err())
		}
	}
	if n := a.topic(name).partitions; n != partitions {
		return fmt.Errorf("%w: it has %d, and needs %d: if the application may begin anew, delete it", ErrPartitions, n, partitions)
	}
	return nil
}
