package client

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// good fulfils the whole list.
func good() Application {
	return Application{
		Name: "billing", Instances: 3,
		Producers: []AppProducer{{Name: "out", TransactionalID: "billing-{instance}"}},
		Consumers: []AppConsumer{
			{Group: "billing", Topics: []string{"orders"}, Offsets: OffsetsTransaction, Producer: "out", Processing: 10 * time.Second},
			{Group: "to-db", Topics: []string{"bills"}, Offsets: OffsetsStore},
		},
		Effects: []AppEffect{{Name: "table bills", Kind: EffectStore, Group: "to-db"}, {Name: "cache", Kind: EffectIdempotent}},
	}
}

func TestCheckConfigFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	if f := CheckConfig(good()); len(f) > 0 {
		t.Fatalf("a good application: %+v", f)
	}
	for name, c := range map[string]struct {
		change func(a *Application)
		want   string // severity, code and subject, in order
	}{
		"no instances is one": {func(a *Application) { a.Instances = 0 }, ""},
		"negative instances":  {func(a *Application) { a.Instances = -1 }, "broken INVALID application billing"},
		"too many":            {func(a *Application) { a.Effects = make([]AppEffect, 1001) }, "broken INVALID application billing"},
		"nameless producer":   {func(a *Application) { a.Producers[0].Name = "" }, "broken INVALID producer "},
		"shared id":           {func(a *Application) { a.Producers[0].TransactionalID = "billing" }, "broken SHARED_TRANSACTIONAL_ID producer out"},
		"one instance may":    {func(a *Application) { a.Instances, a.Producers[0].TransactionalID = 1, "billing" }, ""},
		"random id":           {func(a *Application) { a.Producers[0].TransactionalID = "billing-{random}" }, "broken RANDOM_TRANSACTIONAL_ID producer out"},
		"two producers, one id": {func(a *Application) {
			a.Producers = append(a.Producers, AppProducer{Name: "zwei", TransactionalID: "billing-{instance}"})
		}, "broken SHARED_TRANSACTIONAL_ID producer zwei"},
		"long id":                 {func(a *Application) { a.Producers[0].TransactionalID = strings.Repeat("x", 250) + "{instance}" }, "broken INVALID producer out"},
		"only idempotent":         {func(a *Application) { a.Producers = append(a.Producers, AppProducer{Name: "log"}) }, "notice ONLY_IDEMPOTENT producer log"},
		"transaction timeout 1h":  {func(a *Application) { a.Producers[0].TransactionTimeout = time.Hour }, "broken INVALID producer out"},
		"transaction timeout 10m": {func(a *Application) { a.Producers[0].TransactionTimeout = 10 * time.Minute }, "warning LONG_TRANSACTION_TIMEOUT producer out"},
		"slow requests":           {func(a *Application) { a.Producers[0].RequestTimeout = time.Minute }, "warning REQUEST_TIMEOUT producer out"},
		"slow delivery":           {func(a *Application) { a.Producers[0].DeliveryTimeout = 2 * time.Minute }, "notice DELIVERY_TIMEOUT producer out"},
		"read uncommitted":        {func(a *Application) { a.Consumers[0].Isolation = "read_uncommitted" }, "broken READ_UNCOMMITTED group billing"},
		"other isolation":         {func(a *Application) { a.Consumers[0].Isolation = "serializable" }, "broken INVALID group billing"},
		"committed beside":        {func(a *Application) { a.Consumers[0].Offsets = OffsetsCommit }, "broken OFFSETS_OUTSIDE group billing"},
		"idempotent output": {func(a *Application) {
			a.Producers[0].TransactionalID, a.Consumers[0].Offsets = "", ""
		}, "broken OFFSETS_OUTSIDE group billing; notice ONLY_IDEMPOTENT producer out"},
		"transaction of nobody": {func(a *Application) { a.Consumers[0].Producer = "" }, "broken INVALID group billing"},
		"unknown producer":      {func(a *Application) { a.Consumers[0].Producer = "in" }, "broken INVALID group billing"},
		"transaction, no group": {func(a *Application) { a.Consumers[0].Group = "" }, "broken INVALID consumer of orders"},
		"store and topics":      {func(a *Application) { a.Consumers[1].Producer = "out" }, "broken TWO_RESULTS group to-db"},
		"no offsets": {func(a *Application) {
			a.Consumers = append(a.Consumers, AppConsumer{Topics: []string{"x"}, Offsets: OffsetsNone})
		}, "warning NO_OFFSETS consumer of x"},
		"offsets elsewhere":     {func(a *Application) { a.Consumers[0].Offsets = "paper" }, "broken INVALID group billing"},
		"no topics":             {func(a *Application) { a.Consumers[0].Topics = nil }, "broken INVALID group billing"},
		"random member":         {func(a *Application) { a.Consumers[0].InstanceID = "{random}" }, "warning RANDOM_INSTANCE_ID group billing"},
		"shared member":         {func(a *Application) { a.Consumers[0].InstanceID = "b" }, "broken SHARED_INSTANCE_ID group billing"},
		"manual":                {func(a *Application) { a.Consumers[0].Manual = true }, "warning MANUAL_ASSIGNMENT group billing"},
		"slow batch":            {func(a *Application) { a.Consumers[0].Processing = 40 * time.Second }, "warning TRANSACTION_TIMEOUT group billing"},
		"too slow batch":        {func(a *Application) { a.Consumers[0].Processing = time.Minute }, "broken TRANSACTION_TIMEOUT group billing"},
		"slower than polls":     {func(a *Application) { a.Consumers[1].Processing = 5 * time.Minute }, "broken MAX_POLL_INTERVAL group to-db"},
		"short session":         {func(a *Application) { a.Consumers[0].SessionTimeout = time.Second }, "notice SHORT_SESSION group billing"},
		"long session":          {func(a *Application) { a.Consumers[0].SessionTimeout = 10 * time.Minute }, "notice SESSION_ABOVE_POLL group billing"},
		"session out of bounds": {func(a *Application) { a.Consumers[0].SessionTimeout = time.Millisecond }, "broken INVALID group billing"},
		"two kinds of members": {func(a *Application) {
			a.Consumers = append(a.Consumers, AppConsumer{Group: "to-db", Topics: []string{"x"}, Offsets: OffsetsStore, Manual: true})
		}, "broken INCONSISTENT_GROUP_PROTOCOL group to-db; warning MANUAL_ASSIGNMENT group to-db"},
		"plain effect":            {func(a *Application) { a.Effects[1].Kind = "" }, "broken PLAIN_EFFECT effect cache"},
		"other effect":            {func(a *Application) { a.Effects[1].Kind = "magic" }, "broken INVALID effect cache"},
		"effect without offsets":  {func(a *Application) { a.Consumers[1].Offsets = OffsetsCommit }, "broken STORE_WITHOUT_OFFSETS effect table bills"},
		"effect of another group": {func(a *Application) { a.Effects[0].Group = "billing" }, "broken STORE_WITHOUT_OFFSETS effect table bills"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := good()
			c.change(&app)
			var got []string
			for _, f := range CheckConfig(app) {
				got = append(got, f.Severity.String()+" "+f.Code+" "+f.Subject)
				if f.Breaks == "" || f.Why == "" || f.Mend == "" {
					t.Errorf("%s does not say all: %+v", f.Code, f)
				}
			}
			slices.Sort(got)
			if strings.Join(got, "; ") != c.want {
				t.Errorf("found %q, want %q", strings.Join(got, "; "), c.want)
			}
		})
	}
}
