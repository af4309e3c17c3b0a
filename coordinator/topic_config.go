package coordinator

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
)

// forEver is what the contract says for "no bound", as Kafka does. The catalogue
// has 0, so that a field nobody has set never removes anything.
const forEver = -1

// AlterTopic implements the contract.
func (s *catalogService) AlterTopic(ctx context.Context, req *oncelogv1.AlterTopicRequest) (*oncelogv1.AlterTopicResponse, error) {
	if req.GetTopicId() == 0 {
		return nil, apierrors.InvalidArgument("topic_id", "is missing; GetMetadata tells it")
	}
	retention, err := retentionOf(req.GetConfig())
	if err != nil {
		return nil, err
	}
	config := req.GetConfig()
	if config == nil || config.RetentionMs == nil && config.RetentionBytes == nil {
		return nil, apierrors.InvalidArgument("config", "says nothing that is to change")
	}
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.AlterTopic{
		At: s.now(), TopicID: req.GetTopicId(),
		SetMillis: config.RetentionMs != nil, SetBytes: config.RetentionBytes != nil, Retention: retention,
		CheckVersion: req.ExpectedConfigVersion != nil, Version: req.GetExpectedConfigVersion(),
	})
	if err != nil {
		return nil, err
	}
	if res.Code == catalog.CodeUnknownTopic {
		return nil, unknownTopicID(req.GetTopicId())
	}
	if err := s.catalogError(res, res.Topic.Name); err != nil {
		return nil, err
	}
	if res.Changed {
		s.log.Info("topic altered", "topic", res.Topic.Name, "retention_ms", bound(res.Topic.Retention.Millis),
			"retention_bytes", bound(res.Topic.Retention.Bytes))
	}
	out := &oncelogv1.AlterTopicResponse{}
	s.state.read(func() { out.Topic = topicProto(s.state.catalog, res.Topic, false) })
	return out, nil
}

func unknownTopicID(id uint64) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC,
		"no topic has the id "+strconv.FormatUint(id, 10), apierrors.KeyTopic, strconv.FormatUint(id, 10))
}

// retentionOf reads a configuration; what is unset has its default.
func retentionOf(c *oncelogv1.TopicConfig) (catalog.Retention, error) {
	var r catalog.Retention
	if c == nil {
		return r, nil
	}
	for _, f := range []struct {
		name string
		from *int64
		to   *uint64
	}{
		{"config.retention_ms", c.RetentionMs, &r.Millis},
		{"config.retention_bytes", c.RetentionBytes, &r.Bytes},
	} {
		switch {
		case f.from == nil || *f.from == forEver:
		case *f.from < 1:
			return r, apierrors.InvalidArgument(f.name, "must be at least 1, or -1 for no bound")
		case *f.from > catalog.MaxRetention:
			return r, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
				fmt.Sprintf("%s is above its limit of %d; -1 is for ever", f.name, catalog.MaxRetention),
				apierrors.KeyField, f.name, apierrors.KeyLimit, strconv.Itoa(catalog.MaxRetention))
		default:
			*f.to = uint64(*f.from)
		}
	}
	return r, nil
}

// configProto is retentionOf the other way around, all fields set.
func configProto(r catalog.Retention) *oncelogv1.TopicConfig {
	return &oncelogv1.TopicConfig{RetentionMs: proto.Int64(bound(r.Millis)), RetentionBytes: proto.Int64(bound(r.Bytes))}
}

func bound(v uint64) int64 {
	if v == 0 {
		return forEver
	}
	return int64(v)
}
