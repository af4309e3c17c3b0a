package coordinator

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
)

// Limits of requests, as the contract states them.
const (
	maxName        = 249
	maxRequestID   = 64
	maxList        = 10_000
	maxTopicNames  = 1_000
	maxPage        = 1_000
	defaultPage    = 100
	maxMetadata    = 4096
	maxHeartbeatMs = 5_000
)

func tooLong(field string, limit int) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
		fmt.Sprintf("%s is longer than its limit of %d", field, limit),
		apierrors.KeyField, field, apierrors.KeyLimit, strconv.Itoa(limit))
}

// checkName checks a string that people choose.
func checkName(field, s string, required bool) error {
	switch {
	case required && s == "":
		return apierrors.InvalidArgument(field, "must not be empty")
	case len(s) > maxName:
		return tooLong(field, maxName)
	default:
		return nil
	}
}

// checkAddress checks an address that an operator gives.
func checkAddress(field, s string) error {
	if err := checkName(field, s, true); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s)
	n, badPort := strconv.ParseUint(port, 10, 16)
	if err != nil || badPort != nil || n == 0 || host == "" || strings.ContainsFunc(host, func(r rune) bool { return r == ' ' || !unicode.IsGraphic(r) }) {
		return apierrors.InvalidArgument(field, "must be host:port, as others reach it")
	}
	return nil
}

func checkCount(field string, n, limit int) error {
	if n > limit {
		return tooLong(field, limit)
	}
	return nil
}

// checkTxn checks that a TxnRef names a transaction.
func checkTxn(ref *oncelogv1.TxnRef) error {
	switch {
	case ref.GetProducerId() == 0:
		return apierrors.InvalidArgument("txn.producer_id", "must be the id that InitProducer returned")
	case ref.GetTxnNumber() == 0:
		return apierrors.InvalidArgument("txn.txn_number", "must be at least 1")
	default:
		return nil
	}
}

// pageSize returns how many elements a page may have.
func pageSize(asked uint32) (int, error) {
	switch {
	case asked == 0:
		return defaultPage, nil
	case asked > maxPage:
		return 0, tooLong("page_size", maxPage)
	default:
		return int(asked), nil
	}
}

// checkPartition checks that a reference names a partition, whether or not it
// exists. The field is made only for the error.
func checkPartition(ref *oncelogv1.PartitionRef, field func() string) error {
	if ref.GetPartitionId() != 0 {
		return nil
	}
	if ref.GetTopic() == "" {
		return apierrors.InvalidArgument(field(), "name a partition by topic and partition, or by partition_id")
	}
	if len(ref.GetTopic()) > maxName {
		return tooLong(field()+".topic", maxName)
	}
	return nil
}

// resolve finds the partition that a reference names. The caller holds the
// state still.
func resolve(cat *catalog.Catalog, ref *oncelogv1.PartitionRef) (catalog.Partition, bool) {
	if id := ref.GetPartitionId(); id != 0 {
		return cat.Partition(id)
	}
	return cat.Resolve(ref.GetTopic(), ref.GetPartition())
}

// unknownPartition says which part of a reference is not known. The caller
// holds the state still.
func unknownPartition(cat *catalog.Catalog, field string, ref *oncelogv1.PartitionRef) error {
	if id := ref.GetPartitionId(); id != 0 {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION,
			fmt.Sprintf("%s: no partition has id %d", field, id),
			apierrors.KeyField, field, apierrors.KeyPartitionID, strconv.FormatUint(id, 10))
	}
	code := oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION
	message := fmt.Sprintf("%s: topic %q has no partition %d", field, ref.GetTopic(), ref.GetPartition())
	if _, ok := cat.Topic(ref.GetTopic()); !ok {
		code = oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC
		message = fmt.Sprintf("%s: no topic is named %q", field, ref.GetTopic())
	}
	return apierrors.New(code, message, apierrors.KeyField, field,
		apierrors.KeyTopic, ref.GetTopic(), apierrors.KeyPartition, strconv.FormatUint(uint64(ref.GetPartition()), 10))
}
