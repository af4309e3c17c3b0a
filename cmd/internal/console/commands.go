package console

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// commands are what a page shows, as command lines for a POSIX shell.
type commands struct{ CLI, GRPCurl string }

// cli writes a command of this program.
func (h *Handler) cli(args ...string) string {
	at := slices.Index(args, "--") // names may begin with a dash
	if at < 0 {
		at = len(args)
	}
	return shell(slices.Concat([]string{"oncelog"}, args[:at], h.cfg.Flags, args[at:])...)
}

// grpcurl writes a call with grpcurl. req nil: an empty message.
func (h *Handler) grpcurl(address, method string, req proto.Message) string {
	args := slices.Concat([]string{"grpcurl"}, h.cfg.GRPCFlags)
	if req != nil {
		// protojson varies its spaces on purpose.
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
		var compact any
		if err == nil && json.Unmarshal(text, &compact) == nil {
			if text, err = json.Marshal(compact); err == nil && string(text) != "{}" {
				args = append(args, "-d", string(text))
			}
		}
	}
	return shell(append(args, address, "oncelog.v1."+method)...)
}

// shell quotes words for a POSIX shell. What does not print is written as bash and
// POSIX 2024 take it, so that a name can neither run nor hide anything.
func shell(words ...string) string {
	quoted := make([]string, 0, len(words))
	for _, w := range words {
		quoted = append(quoted, quote(w))
	}
	return strings.Join(quoted, " ")
}

func quote(word string) string {
	plain := func(r rune) bool {
		return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./:=,@%+", r))
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	if strings.IndexFunc(word, func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) || r == unicode.ReplacementChar }) < 0 {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(word) {
		switch c := word[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			// Three octal digits end by themselves, where hexadecimal ones would go on.
			b.WriteByte('\\')
			b.WriteByte(hex[c>>6])
			b.WriteByte(hex[c>>3&7])
			b.WriteByte(hex[c&7])
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
