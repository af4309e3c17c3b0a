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
	retention, cleanup, err := configOf(req.GetConfig())
	if err != nil {
		return nil, err
	}
	config := req.GetConfig()
	if proto.Equal(config, &oncelogv1.TopicConfig{}) || config == nil {
		return nil, apierrors.InvalidArgument("config", "says nothing that is to change")
	}
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.AlterTopic{
		At: s.now(), TopicID: req.GetTopicId(),
		SetMillis: config.RetentionMs != nil, SetBytes: config.RetentionBytes != nil, Retention: retention,
		SetPolicy: config.GetCleanupPolicy() != oncelogv1.CleanupPolicy_CLEANUP_POLICY_UNSPECIFIED,
		SetMinLag: config.MinCompactionLagMs != nil, SetDeleteRetention: config.DeleteRetentionMs != nil, Cleanup: cleanup,
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
			"retention_bytes", bound(res.Topic.Retention.Bytes), "cleanup_policy", policyProto(res.Topic.Cleanup.Policy))
	}
	out := &oncelogv1.AlterTopicResponse{}
	s.state.read(func() { out.Topic = topicProto(s.state.catalog, res.Topic, false) })
	return out, nil
}

func unknownTopicID(id uint64) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC,
		"no topic has the id "+strconv.FormatUint(id, 10), apierrors.KeyTopic, strconv.FormatUint(id, 10))
}

// configOf reads a configuration; what is unset has its default.
func configOf(c *oncelogv1.TopicConfig) (r catalog.Retention, k catalog.Cleanup, err error) {
	if c == nil {
		return r, k, nil
	}
	switch c.GetCleanupPolicy() {
	case oncelogv1.CleanupPolicy_CLEANUP_POLICY_UNSPECIFIED, oncelogv1.CleanupPolicy_CLEANUP_POLICY_DELETE:
	case oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT:
		k.Policy = catalog.PolicyCompact
	case oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT_DELETE:
		k.Policy = catalog.PolicyCompactDelete
	default:
		return r, k, apierrors.InvalidArgument("config.cleanup_policy", "unknown policy")
	}
	for _, f := range []struct {
		name    string
		from    *int64
		to      *uint64
		least   int64
		forEver bool
	}{
		{"config.retention_ms", c.RetentionMs, &r.Millis, 1, true},
		{"config.retention_bytes", c.RetentionBytes, &r.Bytes, 1, true},
		{"config.min_compaction_lag_ms", c.MinCompactionLagMs, &k.MinLag, 0, false},
		{"config.delete_retention_ms", c.DeleteRetentionMs, &k.DeleteRetention, 1, false},
	} {
		also := ""
		if f.forEver {
			also = "; -1 is for ever"
		}
		switch {
		case f.from == nil || f.forEver && *f.from == forEver:
		case *f.from < f.least && f.forEver:
			return r, k, apierrors.InvalidArgument(f.name, "must be at least 1, or -1 for no bound")
		case *f.from < f.least:
			return r, k, apierrors.InvalidArgument(f.name, "must be at least "+strconv.FormatInt(f.least, 10))
		case *f.from > catalog.MaxRetention:
			return r, k, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
				fmt.Sprintf("%s is above its limit of %d%s", f.name, catalog.MaxRetention, also),
				apierrors.KeyField, f.name, apierrors.KeyLimit, strconv.Itoa(catalog.MaxRetention))
		default:
			*f.to = uint64(*f.from)
		}
	}
	return r, k, nil
}

// configProto is configOf the other way around, all fields set.
func configProto(t catalog.Topic) *oncelogv1.TopicConfig {
	keep := t.Cleanup.DeleteRetention
	if keep == 0 {
		keep = catalog.DefaultDeleteRetention
	}
	return &oncelogv1.TopicConfig{
		RetentionMs: proto.Int64(bound(t.Retention.Millis)), RetentionBytes: proto.Int64(bound(t.Retention.Bytes)),
		CleanupPolicy: policyProto(t.Cleanup.Policy), MinCompactionLagMs: proto.Int64(int64(t.Cleanup.MinLag)),
		DeleteRetentionMs: proto.Int64(int64(keep)),
	}
}

func policyProto(p catalog.Policy) oncelogv1.CleanupPolicy {
	switch p {
	case catalog.PolicyCompact:
		return oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT
	case catalog.PolicyCompactDelete:
		return oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT_DELETE
	case catalog.PolicyDelete:
	}
	return oncelogv1.CleanupPolicy_CLEANUP_POLICY_DELETE
}

func bound(v uint64) int64 {
	if v == 0 {
		return forEver
	}
	return int64(v)
}
