package console

import (
	"fmt"
	"html/template"
	"net/url"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// functions are what templates may call. None of them makes HTML: html/template
// escapes all that they return.
func (h *Handler) functions() template.FuncMap {
	return template.FuncMap{
		"time": output.Time,
		"ago": func(ms int64) string {
			if ms == 0 {
				return "-"
			}
			return output.Duration(h.cfg.Now().Sub(time.UnixMilli(ms)))
		},
		"millis":   output.Millis,
		"bytes":    output.Bytes,
		"print":    output.Printable,
		"txn":      txnName,
		"count":    func(n any) string { return output.Count(whole(n)) },
		"optional": output.Optional[uint64],
		"state":    func(s oncelogv1.TransactionState) string { return output.Enum(s, "TRANSACTION_STATE") },
		"outcome":  func(o oncelogv1.TransactionOutcome) string { return output.Enum(o, "TRANSACTION_OUTCOME") },
		"reason":   func(r oncelogv1.AbortReason) string { return output.Enum(r, "ABORT_REASON") },
		"retention": func(ms int64) string {
			if ms <= 0 {
				return "for ever"
			}
			return output.Millis(ms)
		},
		// href makes an address of a path and its parameters.
		"href": func(path string, pairs ...any) string {
			q := url.Values{}
			for i := 0; i+1 < len(pairs); i += 2 {
				q.Set(fmt.Sprint(pairs[i]), fmt.Sprint(pairs[i+1]))
			}
			return path + "?" + q.Encode()
		},
		"menu": func() [][2]string {
			return [][2]string{{"cluster", "/"}, {"transactions", "/transactions"}, {"topics", "/topics"}, {"groups", "/groups"}}
		},
	}
}

// whole is any of the whole numbers that pages have.
func whole(n any) uint64 {
	switch n := n.(type) {
	case uint64:
		return n
	case uint32:
		return uint64(n)
	case int:
		return uint64(max(n, 0))
	}
	return 0
}
