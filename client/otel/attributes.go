package otel

import (
	"strconv"

	"go.opentelemetry.io/otel/attribute"

	"github.com/oncelog/oncelog/client"
)

// Attributes are those of OpenTelemetry's conventions for messaging, which are not
// stable yet: they are named here and nowhere else.
const (
	attrSystem     = attribute.Key("messaging.system")
	attrOperation  = attribute.Key("messaging.operation.name")
	attrTopic      = attribute.Key("messaging.destination.name")
	attrPartition  = attribute.Key("messaging.destination.partition.id")
	attrGroup      = attribute.Key("messaging.consumer.group.name")
	attrBatchCount = attribute.Key("messaging.batch.message_count")
	attrErrorType  = attribute.Key("error.type")

	attrTransactionalID = attribute.Key("oncelog.transactional_id")
	attrProducerID      = attribute.Key("oncelog.producer.id")
	attrEpoch           = attribute.Key("oncelog.producer.epoch")
	attrNumber          = attribute.Key("oncelog.transaction.number")
)

func attributesOf(s client.Span) []attribute.KeyValue {
	out := []attribute.KeyValue{attrSystem.String("oncelog"), attrOperation.String(s.Kind.String())}
	if s.TxID.ProducerID != 0 {
		out = append(out, attrProducerID.Int64(int64(s.TxID.ProducerID)), attrEpoch.Int64(int64(s.TxID.Epoch)))
	}
	if s.TxID.Number != 0 {
		out = append(out, attrTransactionalID.String(s.TxID.TransactionalID), attrNumber.Int64(int64(s.TxID.Number)))
	}
	if s.Topic != "" {
		out = append(out, attrTopic.String(s.Topic))
		if s.Partition >= 0 {
			out = append(out, attrPartition.String(strconv.Itoa(int(s.Partition))))
		}
	}
	if s.Kind == client.SpanProcess {
		out = append(out, attrGroup.String(s.Group), attrBatchCount.Int(s.Records))
	}
	return out
}
