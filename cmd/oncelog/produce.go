package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// produceOptions are the flags of produce.
type produceOptions struct {
	keySeparator    string
	headers         []string
	partition       int32
	toPartition     bool // partition was given
	compression     string
	transactionalID string
}

func newProduceCommand(a *app) *cobra.Command {
	var o produceOptions
	c := &cobra.Command{
		Use:   "produce TOPIC [FILE...]",
		Short: "Send the lines of files, or of standard input, as records",
		Long: `Produce sends every line, without its line feed, as one record. It is idempotent:
whatever is repeated on the way, every line is stored once, and lines of one
partition in their order. It ends when all of them are durable.

With --transactional-id all lines are one transaction: readers see all of them
or, if anything fails, none. It has to end within a minute.`,
		Example: `  oncelog produce orders < orders.txt
  oncelog produce orders a.txt b.txt --key-separator :
  oncelog produce orders --transactional-id nightly-load export.csv`,
		Args: takes(1, -1),
	}
	c.Flags().StringVar(&o.keySeparator, "key-separator", "", "what stands between key and value of a line; a line without it has no key")
	c.Flags().StringArrayVar(&o.headers, "header", nil, "header of every record, KEY=VALUE")
	c.Flags().Int32VarP(&o.partition, "partition", "p", 0, "send everything to this partition (default: by key, or spread)")
	o.compression = "none"
	c.Flags().Var(&choice{&o.compression, []string{"none", "snappy", "lz4", "zstd"}}, "compression", "codec of batches")
	c.Flags().StringVar(&o.transactionalID, "transactional-id", "", "send all lines in one transaction of this id")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		o.toPartition = c.Flags().Changed("partition")
		switch {
		case o.partition < 0:
			return &usageError{fmt.Errorf("--partition is %d: it must be a whole number from 0", o.partition)}
		case c.Flags().Changed("transactional-id") && o.transactionalID == "": // as from an empty variable
			return &usageError{errors.New("--transactional-id must not be empty: without a transaction leave it out")}
		}
		p := &production{
			session: s, options: o, topic: args[0], begun: time.Now(),
			status: output.NewStatus(s.err, s.err, s.interactive),
		}
		if err := p.parseHeaders(); err != nil {
			return &usageError{err}
		}
		return p.run(ctx, args[1:])
	})
}

// production is one run of produce.
type production struct {
	*session
	options produceOptions
	topic   string
	headers []client.Header
	begun   time.Time

	records uint64
	bytes   uint64
	status  *output.Status
	drawn   time.Time // when progress was shown last
}

func (p *production) parseHeaders() error {
	for _, text := range p.options.headers {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("header %q must be KEY=VALUE", text)
		}
		p.headers = append(p.headers, client.Header{Key: key, Value: []byte(value)})
	}
	return nil
}

// sender is what sends the lines: an idempotent producer, or a transaction.
type sender interface {
	Send(ctx context.Context, rs ...*client.Record) error
}

func (p *production) run(ctx context.Context, files []string) error {
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	// Before the first line is read: it may be long in coming.
	_, err = ask(ctx, p.session, "topic "+p.topic, func(ctx context.Context, a *client.Admin) (*oncelogv1.Topic, error) {
		return a.DescribeTopic(ctx, p.topic)
	})
	if err != nil {
		return err
	}
	compression, err := client.ParseCompression(p.options.compression)
	if err != nil {
		return &usageError{err}
	}
	options := []client.ProducerOption{client.WithCompression(compression), client.WithDeliveryTimeout(p.cfg.Timeout)}
	if p.options.transactionalID != "" {
		return p.transaction(ctx, c, files, options)
	}
	starting, cancel := p.limit(ctx)
	defer cancel()
	producer, err := c.IdempotentProducer(starting, options...)
	if err != nil {
		return err
	}
	sent := p.sendAll(ctx, producer, files)
	// What was sent before a failure is not taken back: say how much it is.
	flushing, cancel := p.limit(context.WithoutCancel(ctx))
	defer cancel()
	if err := producer.Flush(flushing); err != nil {
		return errors.Join(sent, about{fmt.Sprintf("not everything of %s is known to be stored", counted(p.records, "line")), err})
	}
	if sent != nil && p.records > 0 {
		fmt.Fprintf(p.err, "the first %s\n", areStored(p.records, "line"))
	}
	if sent != nil {
		return sent
	}
	return p.summary("")
}

// transaction sends everything in one transaction.
func (p *production) transaction(ctx context.Context, c *client.Client, files []string, options []client.ProducerOption) error {
	starting, cancel := p.limit(ctx)
	defer cancel()
	producer, err := c.InitTransactions(starting, p.options.transactionalID, options...)
	if err != nil {
		return about{"transactional id " + p.options.transactionalID, err}
	}
	tx, err := producer.Begin(starting)
	if err != nil {
		return err
	}
	id := tx.ID()
	if err := p.sendAll(ctx, tx, files); err != nil {
		ending, cancel := p.limit(context.WithoutCancel(ctx))
		defer cancel()
		if aborted := tx.Abort(ending); aborted != nil {
			return errors.Join(err, about{"the transaction is left to its timeout", aborted})
		}
		if ctx.Err() != nil { // of which no more is said than that
			fmt.Fprintln(p.err, "nothing was stored: the transaction is aborted")
			return err
		}
		return about{"nothing was stored: the transaction is aborted", err}
	}
	ending, cancel := p.limit(ctx)
	defer cancel()
	err = tx.Commit(ending)
	if errors.Is(err, client.ErrOutcomeUnknown) {
		return &helpError{err, "Ask with `oncelog txn outcome " + id.String() + "`; never send the lines again before."}
	}
	if err != nil {
		return about{"nothing was stored", err}
	}
	return p.summary(id.String())
}

func (p *production) sendAll(ctx context.Context, to sender, files []string) error {
	defer p.clear()
	if len(files) == 0 {
		return p.sendLines(ctx, to, "standard input", interruptible(ctx, p.in))
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = p.sendLines(ctx, to, name, f)
		_ = f.Close() // it was only read
		if err != nil {
			return err
		}
	}
	return nil
}

// interruptible returns a reader of in that ends with ctx: a read of standard
// input cannot be called off.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	return r
}

func (p *production) sendLines(ctx context.Context, to sender, name string, r io.Reader) error {
	lines := newLineReader(r)
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = to.Send(ctx, p.record(line))
		}
		if err != nil {
			return about{fmt.Sprintf("%s, line %s", name, output.Count(lines.number)), err}
		}
		p.records++
		p.bytes += uint64(len(line))
		p.progress()
	}
}

// record makes a record of a line.
func (p *production) record(line []byte) *client.Record {
	r := &client.Record{Topic: p.topic, Value: line, Headers: p.headers}
	if sep := p.options.keySeparator; sep != "" {
		if key, value, ok := bytes.Cut(line, []byte(sep)); ok {
			r.Key, r.Value = key, value
		}
	}
	if p.options.toPartition {
		r.WithPartition(p.options.partition)
	}
	return r
}

// progress shows on a terminal how far it is.
func (p *production) progress() {
	if !p.interactive || p.typed || time.Since(p.drawn) < drawInterval {
		return
	}
	p.drawn = time.Now()
	p.status.Show(fmt.Sprintf("%s, %s, %s/s", counted(p.records, "record"), output.Bytes(p.bytes), output.Count(p.rate())))
}

// clear removes the progress.
func (p *production) clear() { p.status.Show("") }

func (p *production) rate() uint64 {
	return uint64(float64(p.records) / max(time.Since(p.begun).Seconds(), 1e-3))
}

// summary says what was stored.
func (p *production) summary(txn string) error {
	took := time.Since(p.begun)
	result := struct {
		Topic   string  `json:"topic"`
		Records uint64  `json:"records,string"`
		Bytes   uint64  `json:"bytes,string"`
		Seconds float64 `json:"seconds"`
		Txn     string  `json:"txn"`
	}{p.topic, p.records, p.bytes, took.Seconds(), txn}
	return p.print(result, func(io.Writer) error {
		// Not on standard output: nothing was asked for that another program would read.
		text := fmt.Sprintf("%s in %s, %s", areStored(p.records, "record"), p.topic, output.Bytes(p.bytes))
		if txn != "" {
			text += ", by transaction " + txn
		}
		fmt.Fprintf(p.err, "%s; %s, %s/s\n", text, output.Duration(took), output.Count(p.rate()))
		return nil
	})
}
