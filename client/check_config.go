package client

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Placeholders in ids of an Application.
const (
	placeInstance = "{instance}"
	placeRandom   = "{random}"
)

// maxAppParts bounds each list of an Application.
const maxAppParts = 1000

// CheckConfig goes through the checklist of exactly-once processing and returns what
// of it an application does not fulfil, the worst first. An empty result means that
// nothing was found in the description, not that the program is as described. It
// connects to nothing; `oncelog doctor` looks at what a cluster knows besides.
func CheckConfig(app Application) []Finding {
	if app.Instances == 0 {
		app.Instances = 1
	}
	a := &appCheck{app: app, producers: map[string]*AppProducer{}}
	if a.malformed() {
		return a.findings
	}
	for i := range app.Producers {
		a.producers[app.Producers[i].Name] = &app.Producers[i]
	}
	for i := range app.Producers {
		a.producer(&app.Producers[i])
	}
	for i := range app.Consumers {
		a.consumer(&app.Consumers[i])
	}
	for i := range app.Effects {
		a.effect(&app.Effects[i])
	}
	a.groups()
	slices.SortStableFunc(a.findings, func(x, y Finding) int { return cmp.Compare(y.Severity, x.Severity) })
	return a.findings
}

type appCheck struct {
	app       Application
	producers map[string]*AppProducer
	findings  []Finding
}

func (a *appCheck) find(s Severity, code, subject, breaks, why, mend string) {
	a.findings = append(a.findings, Finding{s, code, subject, breaks, why, mend})
}

func (a *appCheck) invalid(subject, format string, args ...any) {
	a.find(Broken, "INVALID", subject, "The constructor refuses it, so the program does not start.", fmt.Sprintf(format, args...), "Correct it.")
}

// malformed reports what the other checks cannot work with.
func (a *appCheck) malformed() bool {
	what := "application " + a.app.Name
	switch {
	case a.app.Instances < 0:
		a.invalid(what, "instances is %d: 1 or more", a.app.Instances)
	case len(a.app.Producers) > maxAppParts || len(a.app.Consumers) > maxAppParts || len(a.app.Effects) > maxAppParts:
		a.invalid(what, "more than %d producers, consumers or effects", maxAppParts)
	}
	names := map[string]bool{}
	for _, p := range a.app.Producers {
		if p.Name == "" || names[p.Name] {
			a.invalid("producer "+p.Name, "a producer needs a name of its own")
		}
		names[p.Name] = true
	}
	return len(a.findings) > 0
}

// or returns d, or what it is by default.
func or(d, byDefault time.Duration) time.Duration { return cmp.Or(d, byDefault) }

func (a *appCheck) producer(p *AppProducer) {
	what := "producer " + p.Name
	cfg := defaultProducerConfig()
	cfg.timeout, cfg.deliveryTimeout = or(p.TransactionTimeout, cfg.timeout), or(p.DeliveryTimeout, cfg.deliveryTimeout)
	request := or(p.RequestTimeout, defaultConfig().requestTimeout)
	if err := cfg.check("configure"); err != nil {
		a.invalid(what, "%v", err)
		return
	}
	if p.TransactionalID == "" {
		a.find(Notice, "ONLY_IDEMPOTENT", what,
			"A restart of the program may write records again, and what it writes to several partitions is not one step.",
			"Without a transactional id the cluster drops repetitions of one producer's life only.",
			"Give it a transactional id, and write in transactions.")
		return
	}
	if len(p.TransactionalID) > maxNameBytes {
		a.invalid(what, "transactional id of %d bytes: at most %d", len(p.TransactionalID), maxNameBytes)
	}
	a.transactionalID(what, p)
	switch {
	case request >= cfg.timeout:
		a.find(Warning, "REQUEST_TIMEOUT", what,
			"One silent node is enough to have a transaction aborted by its timeout.",
			fmt.Sprintf("An attempt of a call waits up to %v, and the transaction lasts %v at most.", request, cfg.timeout),
			"Have the request timeout well below the transaction timeout.")
	case p.DeliveryTimeout > cfg.timeout:
		a.find(Notice, "DELIVERY_TIMEOUT", what,
			"The delivery timeout never ends anything.",
			fmt.Sprintf("The transaction of a record is aborted after %v, before its delivery timeout of %v.", cfg.timeout, p.DeliveryTimeout),
			"Have delivery timeout below transaction timeout, or leave it out.")
	}
	if cfg.timeout > 5*time.Minute {
		a.find(Warning, "LONG_TRANSACTION_TIMEOUT", what,
			fmt.Sprintf("When an instance hangs or dies for good, readers of its partitions wait up to %v.", cfg.timeout),
			"read_committed shows nothing behind an open transaction.",
			"Have smaller transactions, and a timeout that is little more than what one takes in bad times.")
	}
}

func (a *appCheck) transactionalID(what string, p *AppProducer) {
	if strings.Contains(p.TransactionalID, placeRandom) {
		a.find(Broken, "RANDOM_TRANSACTIONAL_ID", what,
			"After a crash the transaction that was open is not aborted until it times out, and an instance that only seemed to be dead can still commit.",
			"InitTransactions fences whoever used the same id before. An id that is new at every start fences nobody, and the cluster remembers every one of them.",
			"Use an id that stays over restarts, such as the name of the program and "+placeInstance+".")
	}
	if a.app.Instances > 1 && !strings.Contains(p.TransactionalID, placeInstance) && !strings.Contains(p.TransactionalID, placeRandom) {
		a.find(Broken, "SHARED_TRANSACTIONAL_ID", what,
			"The instances fence each other in turns, and little or nothing is committed.",
			fmt.Sprintf("%d instances use the id %q, and only one producer at a time can own it.", a.app.Instances, p.TransactionalID),
			"Put "+placeInstance+" into the id: something that differs between instances and stays over restarts.")
	}
	for i := range a.app.Producers {
		other := &a.app.Producers[i]
		if other.Name < p.Name && other.TransactionalID == p.TransactionalID {
			a.find(Broken, "SHARED_TRANSACTIONAL_ID", what,
				fmt.Sprintf("It fences producer %s, and is fenced by it.", other.Name),
				fmt.Sprintf("Both use the id %q, and only one producer at a time can own it.", p.TransactionalID),
				"Give each producer an id of its own.")
		}
	}
}

func (a *appCheck) effect(e *AppEffect) {
	what := "effect " + e.Name
	switch e.Kind {
	case EffectPlain, "":
		a.find(Broken, "PLAIN_EFFECT", what,
			"It may happen more than once: whenever a transaction is aborted, or the program dies after it and before the commit, the records are processed again.",
			"A transaction of the cluster covers records and positions, and nothing outside of it.",
			"Do it in one transaction of its store with the positions (package client/sink), or give it a key that makes repetitions harmless, "+
				"such as topic, partition and offset; or write it to a topic, and let a program of its own do it.")
	case EffectStore:
		if e.Group != "" && !slices.ContainsFunc(a.app.Consumers, func(c AppConsumer) bool { return c.Group == e.Group && c.Offsets == OffsetsStore }) {
			a.find(Broken, "STORE_WITHOUT_OFFSETS", what,
				"After a crash between the two commits it happens again, or never.",
				fmt.Sprintf("It is in a transaction of its store, and the positions of group %s are not.", e.Group),
				"Keep the positions in the store, as sink.Run does.")
		}
	case EffectIdempotent:
	default:
		a.invalid(what, "kind %q: %s, %s or %s", e.Kind, EffectStore, EffectIdempotent, EffectPlain)
	}
}
