package output_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func TestTable(t *testing.T) {
	t.Parallel()
	table := output.NewTable("transactional_id", "age", "client_id")
	table.Row("orders", "1m00s", "")
	table.Row("a\nb\tc\x1b[31m", 7, "übung", "too many are left out")
	table.Row("short")
	var out bytes.Buffer
	if err := table.Write(&out); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		`TRANSACTIONAL_ID  AGE    CLIENT_ID`,
		`orders            1m00s  -`,
		`a\nb\tc\x1b[31m   7      übung`,
		`short             -      -`,
		``,
	}, "\n")
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := output.Fields(&out, "name", "orders", "partition_count", 3); err != nil {
		t.Fatal(err)
	}
	if want := "NAME:             orders\nPARTITION_COUNT:  3\n"; out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestForPeople(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		output.Count(0):                          "0",
		output.Count(999):                        "999",
		output.Count(-1000):                      "-1,000",
		output.Count(uint64(1<<64 - 1)):          "18,446,744,073,709,551,615",
		output.Bytes(0):                          "0 B",
		output.Bytes(1023):                       "1023 B",
		output.Bytes(1536):                       "1.50 KiB",
		output.Bytes(20 << 20):                   "20.0 MiB",
		output.Bytes(1<<64 - 1):                  "16.0 EiB",
		output.Duration(0):                       "0s",
		output.Duration(1500 * time.Nanosecond):  "2µs",
		output.Duration(250 * time.Millisecond):  "250ms",
		output.Duration(4249 * time.Millisecond): "4.2s",
		output.Duration(59 * time.Second):        "59s",
		output.Duration(185 * time.Second):       "3m05s",
		output.Duration(62 * time.Minute):        "1h02m",
		output.Duration(50 * time.Hour):          "2d02h",
		output.Duration(-time.Second):            "-1s",
		output.Millis(1000):                      "1s",
		output.Time(0):                           "-",
		output.Time(1_700_000_000_123):           "2023-11-14T22:13:20.123Z",
		output.Optional[uint64](nil):             "-",
		output.Optional(new(uint64)):             "0",
		output.Enum(oncelogv1.TransactionState(4), "TRANSACTION_STATE"):     "prepare-abort",
		output.Enum(oncelogv1.TransactionState(0), "TRANSACTION_STATE"):     "-",
		output.Enum(oncelogv1.TransactionOutcome(1), "TRANSACTION_OUTCOME"): "committed",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFormsForPrograms(t *testing.T) {
	t.Parallel()
	topic := &oncelogv1.Topic{Name: "no: \"yes\"", TopicId: 1 << 60, Partitions: []*oncelogv1.Partition{{PartitionId: 7}}}
	for name, c := range map[string]struct {
		print func(*bytes.Buffer) error
		want  string
	}{
		"json": {func(b *bytes.Buffer) error { return output.JSON(b, topic) }, `{
  "name": "no: \"yes\"",
  "topic_id": "1152921504606846976",
  "partition_count": 0,
  "replication_factor": 0,
  "created_at_ms": "0",
  "partitions": [
    {
      "partition": 0,
      "partition_id": "7",
      "shard_id": "0"
    }
  ],
  "config_version": "0"
}
`},
		"line": {
			func(b *bytes.Buffer) error { return output.JSONLine(b, &oncelogv1.TxnRef{ProducerId: 1}) },
			`{"producer_id":"1","epoch":0,"txn_number":"0"}` + "\n",
		},
		"yaml": {func(b *bytes.Buffer) error { return output.YAML(b, topic) }, `name: 'no: "yes"'
topic_id: "1152921504606846976"
partition_count: 0
replication_factor: 0
created_at_ms: "0"
partitions:
  - partition: 0
    partition_id: "7"
    shard_id: "0"
config_version: "0"
`},
		"a struct": {func(b *bytes.Buffer) error {
			return output.YAML(b, struct {
				B int      `json:"b"`
				A []string `json:"a"`
			}{1, []string{"x"}})
		}, "b: 1\na:\n  - x\n"},
	} {
		var out bytes.Buffer
		if err := c.print(&out); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if out.String() != c.want {
			t.Errorf("%s: got:\n%s\nwant:\n%s", name, out.String(), c.want)
		}
	}
}
