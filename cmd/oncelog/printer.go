package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// printer prints records.
type printer struct {
	w    *bufio.Writer
	json bool
	show []string
}

// Parts of a record that --show puts before the value, in any order.
var recordParts = []string{"topic", "partition", "offset", "timestamp", "key", "headers"}

func newPrinter(w io.Writer, form string, show []string) (*printer, error) {
	for _, part := range show {
		if !slices.Contains(recordParts, part) {
			return nil, fmt.Errorf("--show %s: there are %s", part, strings.Join(recordParts, ", "))
		}
	}
	if len(show) > 0 && form == config.OutputJSON {
		return nil, fmt.Errorf("--show is for text: json has everything")
	}
	return &printer{w: bufio.NewWriterSize(w, 64<<10), json: form == config.OutputJSON, show: show}, nil
}

func (p *printer) flush() error { return p.w.Flush() }

func (p *printer) record(r *client.Record) error {
	if p.json {
		return output.JSONLine(p.w, newRecordView(r))
	}
	for _, part := range p.show {
		switch part {
		case "topic":
			p.w.WriteString(r.Topic)
		case "partition":
			fmt.Fprint(p.w, r.Partition)
		case "offset":
			fmt.Fprint(p.w, r.Offset)
		case "timestamp":
			p.w.WriteString(output.Time(r.Timestamp.UnixMilli()))
		case "key":
			p.w.WriteString(output.Printable(string(r.Key)))
		case "headers":
			for i, h := range r.Headers {
				if i > 0 {
					p.w.WriteByte(',')
				}
				fmt.Fprintf(p.w, "%s=%s", output.Printable(h.Key), output.Printable(string(h.Value)))
			}
		}
		p.w.WriteByte('\t')
	}
	p.w.Write(r.Value)
	return p.w.WriteByte('\n') // a bufio.Writer returns the first error of all
}

// recordView is a record for programs.
type recordView struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset,string"`
	TimestampMs int64        `json:"timestamp_ms,string"`
	Key         *string      `json:"key"`
	KeyBase64   string       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 string       `json:"value_base64,omitempty"`
	Headers     []headerView `json:"headers"`
}

type headerView struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 string  `json:"value_base64,omitempty"`
}

func newRecordView(r *client.Record) recordView {
	v := recordView{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, TimestampMs: r.Timestamp.UnixMilli(), Headers: []headerView{},
	}
	v.Key, v.KeyBase64 = text(r.Key)
	v.Value, v.ValueBase64 = text(r.Value)
	for _, h := range r.Headers {
		hv := headerView{Key: h.Key}
		hv.Value, hv.ValueBase64 = text(h.Value)
		v.Headers = append(v.Headers, hv)
	}
	return v
}

// text returns bytes as text if they are UTF-8, else in base64; both absent for
// nil.
func text(b []byte) (plain *string, base string) {
	switch {
	case b == nil:
		return nil, ""
	case utf8.Valid(b):
		s := string(b)
		return &s, ""
	default:
		return nil, base64.StdEncoding.EncodeToString(b)
	}
}
