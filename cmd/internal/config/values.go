package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is one kind of setting, bound to the field that it fills. set takes the
// whole value; scalars get one text. Its error says what is wrong and how it is
// right, without naming the key.
type value interface {
	fmt.Stringer
	set(texts []string) error
	unit() string
}

// list is a value of several elements: separated by commas on one line, or
// given by repeating the flag.
type list interface {
	value
	isList()
}

// mapped is a list whose elements may be written as mappings in the file.
type mapped interface {
	fields() []string
	join(fields map[string]string) string
}

func one(texts []string) (string, error) {
	if len(texts) != 1 {
		return "", errors.New("takes one value, not a list")
	}
	return texts[0], nil
}

type textValue struct {
	to   *string
	what string
}

func (v textValue) String() string { return *v.to }
func (v textValue) unit() string   { return v.what }

func (v textValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	if text == "" {
		return fmt.Errorf("must not be empty: give a %s", v.what)
	}
	*v.to = text
	return nil
}

// pathValue is the name of a file, or nothing.
type pathValue struct{ to *string }

func (v pathValue) String() string { return *v.to }
func (v pathValue) unit() string   { return "path of a file, or empty" }

func (v pathValue) set(texts []string) (err error) {
	*v.to, err = one(texts)
	return err
}

// wordValue is a text that may be empty.
type wordValue struct{ to *string }

func (v wordValue) String() string { return *v.to }
func (v wordValue) unit() string   { return "text, or empty" }

func (v wordValue) set(texts []string) (err error) {
	*v.to, err = one(texts)
	return err
}

// maxSuperUsers bounds a list that every call is compared with.
const maxSuperUsers = 100

// principalsValue is a list of principals, which may be empty.
type principalsValue struct{ to *[]string }

func (principalsValue) isList()          {}
func (v principalsValue) String() string { return strings.Join(*v.to, ",") }
func (v principalsValue) unit() string {
	return fmt.Sprintf("list of %d principals of 255 bytes at most", maxSuperUsers)
}

func (v principalsValue) set(texts []string) error {
	if len(texts) > maxSuperUsers {
		return fmt.Errorf("has %d names, more than %d", len(texts), maxSuperUsers)
	}
	for _, text := range texts {
		if text == "" || len(text) > 255 || text == "*" || text == "anonymous" {
			return fmt.Errorf("has %q: give names of 1 to 255 bytes; everybody and anonymous cannot be super users", text)
		}
	}
	*v.to = texts
	return nil
}

type uintValue struct {
	to       *uint64
	min, max uint64
}

func (v uintValue) String() string { return strconv.FormatUint(*v.to, 10) }
func (v uintValue) unit() string   { return fmt.Sprintf("whole number from %d to %d", v.min, v.max) }

func (v uintValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < v.min || n > v.max {
		return fmt.Errorf("must be a whole number from %d to %d", v.min, v.max)
	}
	*v.to = n
	return nil
}

type uint32Value struct {
	to       *uint32
	min, max uint32
}

func (v uint32Value) String() string { return strconv.FormatUint(uint64(*v.to), 10) }
func (v uint32Value) unit() string   { return fmt.Sprintf("whole number from %d to %d", v.min, v.max) }

func (v uint32Value) set(texts []string) error {
	var n uint64
	if err := (uintValue{&n, uint64(v.min), uint64(v.max)}).set(texts); err != nil {
		return err
	}
	*v.to = uint32(n)
	return nil
}

type intValue struct {
	to       *int
	min, max int
}

func (v intValue) String() string { return strconv.Itoa(*v.to) }
func (v intValue) unit() string   { return fmt.Sprintf("whole number from %d to %d", v.min, v.max) }

func (v intValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < v.min || n > v.max {
		return fmt.Errorf("must be a whole number from %d to %d", v.min, v.max)
	}
	*v.to = n
	return nil
}

type durationValue struct {
	to       *time.Duration
	min, max time.Duration
}

func (v durationValue) String() string { return shortDuration(*v.to) }

func (v durationValue) unit() string {
	return fmt.Sprintf("duration with its unit, from %s to %s", shortDuration(v.min), shortDuration(v.max))
}

func (v durationValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil && isNumber(text):
		return fmt.Errorf("has no unit: write %sms, %ss or %sm", text, text, text)
	case err != nil:
		return errors.New("must be a duration such as 250ms, 30s, 15m or 168h")
	case d < v.min || d > v.max:
		return fmt.Errorf("must be from %s to %s", shortDuration(v.min), shortDuration(v.max))
	}
	*v.to = d
	return nil
}

func isNumber(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return err == nil
}

// shortDuration is d without the zeros that time.Duration prints: 15m, not
// 15m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

type bytesValue struct {
	to       *uint64
	min, max uint64
}

// byteUnits are in the order in which a text is tried.
var byteUnits = []struct {
	suffix string
	size   uint64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

func (v bytesValue) unit() string {
	return "bytes, such as 256MiB, from " + bytesValue{&v.min, 0, 0}.String() + " to " + bytesValue{&v.max, 0, 0}.String()
}

func (v bytesValue) String() string {
	for _, u := range slices.Backward(byteUnits[:4]) {
		if *v.to >= u.size && *v.to%u.size == 0 {
			return strconv.FormatUint(*v.to/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatUint(*v.to, 10)
}

func (v bytesValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
		if err != nil {
			break
		}
		if n > v.max/u.size || n*u.size < v.min {
			return fmt.Errorf("must be from %d to %d bytes", v.min, v.max)
		}
		*v.to = n * u.size
		return nil
	}
	return errors.New("must be a number of bytes such as 1048576, 512KiB, 256MiB or 2GiB")
}

type boolValue struct{ to *bool }

func (v boolValue) String() string { return strconv.FormatBool(*v.to) }
func (v boolValue) unit() string   { return "true|false" }

func (v boolValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	switch text {
	case "true", "false":
		*v.to = text == "true"
		return nil
	default:
		return errors.New("must be one of true, false")
	}
}

type choiceValue struct {
	to      *string
	choices []string
}

func (v choiceValue) String() string { return *v.to }
func (v choiceValue) unit() string   { return strings.Join(v.choices, "|") }

func (v choiceValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	if !slices.Contains(v.choices, text) {
		return fmt.Errorf("must be one of %s", strings.Join(v.choices, ", "))
	}
	*v.to = text
	return nil
}

type levelValue struct{ to *slog.Level }

var levels = []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

func (v levelValue) String() string { return strings.ToLower(v.to.String()) }
func (v levelValue) unit() string   { return "debug|info|warn|error" }

func (v levelValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	for _, l := range levels {
		if strings.EqualFold(l.String(), text) {
			*v.to = l
			return nil
		}
	}
	return errors.New("must be one of debug, info, warn, error")
}

// addressUse says what an address is for.
type addressUse uint8

const (
	dialled             addressUse = iota // others connect to it: a real host and port
	listening                             // port 0 takes a free one, an empty host all interfaces
	optional                              // dialled, or empty
	optionallyListening                   // listening, or empty
)

type addressValue struct {
	to  *string
	use addressUse
}

func (v addressValue) String() string { return *v.to }

func (v addressValue) unit() string {
	if v.use == optional || v.use == optionallyListening {
		return "host:port, or empty"
	}
	return "host:port"
}

func (v addressValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	if err := checkAddress(text, v.use); err != nil {
		return err
	}
	*v.to = text
	return nil
}

// maxAddressBytes is the catalogue's bound of an address.
const maxAddressBytes = 255

func checkAddress(text string, use addressUse) error {
	if text == "" && (use == optional || use == optionallyListening) {
		return nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New("must be host:port, such as 127.0.0.1:7100 or [::1]:7100")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case len(text) > maxAddressBytes:
		return fmt.Errorf("has %d bytes, more than %d", len(text), maxAddressBytes)
	case err != nil:
		return errors.New("must end with a port number from 1 to 65535")
	case use == listening || use == optionallyListening:
		return nil
	case n == 0:
		return errors.New("must have a port from 1 to 65535: nobody can connect to port 0")
	case anyHost(host):
		return errors.New("must name a host that others can reach, not all interfaces")
	}
	return nil
}

// anyHost reports whether a host stands for all interfaces.
func anyHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

type addressesValue struct{ to *[]string }

// maxAddresses bounds a list of nodes that are asked one after the other.
const maxAddresses = 100

func (addressesValue) isList()          {}
func (v addressesValue) String() string { return strings.Join(*v.to, ",") }
func (v addressesValue) unit() string {
	return fmt.Sprintf("list of %d host:port at most", maxAddresses)
}

func (v addressesValue) set(texts []string) error {
	switch {
	case len(texts) == 0:
		return errors.New("must have at least one host:port")
	case len(texts) > maxAddresses:
		return fmt.Errorf("has %d addresses, more than %d", len(texts), maxAddresses)
	}
	for _, text := range texts {
		if err := checkAddress(text, dialled); err != nil {
			return fmt.Errorf("has %q, which %w", text, err)
		}
	}
	*v.to = texts
	return nil
}

type membersValue struct{ to *[]Member }

func (membersValue) isList() {}
func (v membersValue) unit() string {
	return fmt.Sprintf("list of %d ID=CLIENT_ADDRESS/PEER_ADDRESS at most", maxMembers)
}

func (v membersValue) String() string {
	var texts []string
	for _, m := range *v.to {
		texts = append(texts, m.String())
	}
	return strings.Join(texts, ",")
}

func (v membersValue) set(texts []string) error {
	var members []Member
	for _, text := range texts {
		m, err := ParseMember(text)
		if err != nil {
			return fmt.Errorf("has %q, which %w", text, err)
		}
		members = append(members, m)
	}
	if len(members) == 0 {
		return errors.New("must name every coordinator node as ID=CLIENT_ADDRESS/PEER_ADDRESS")
	}
	*v.to = members
	return nil
}

// ParseMember reads ID=CLIENT_ADDRESS/PEER_ADDRESS.
func ParseMember(text string) (Member, error) {
	id, addresses, ok := strings.Cut(text, "=")
	client, peer, both := strings.Cut(addresses, "/")
	if !ok || !both {
		return Member{}, errors.New("must be ID=CLIENT_ADDRESS/PEER_ADDRESS, such as 1=10.0.0.1:7100/10.0.0.1:7101")
	}
	m := Member{ClientAddress: client, PeerAddress: peer}
	if err := (uintValue{&m.ID, 1, 1 << 62}).set([]string{id}); err != nil {
		return m, fmt.Errorf("has the node id %q, which %w", id, err)
	}
	for _, address := range []string{client, peer} {
		if err := checkAddress(address, dialled); err != nil {
			return m, fmt.Errorf("has the address %q, which %w", address, err)
		}
	}
	return m, nil
}

func (membersValue) fields() []string { return []string{"id", "client_address", "peer_address"} }

func (membersValue) join(f map[string]string) string {
	return f["id"] + "=" + f["client_address"] + "/" + f["peer_address"]
}

// maxURLBytes bounds a URL.
const maxURLBytes = 2048

// urlValue is the http or https URL of a collector, or nothing.
type urlValue struct{ to *string }

func (v urlValue) String() string { return *v.to }
func (v urlValue) unit() string   { return fmt.Sprintf("URL of %d bytes at most, or empty", maxURLBytes) }

func (v urlValue) set(texts []string) error {
	text, err := one(texts)
	if err != nil {
		return err
	}
	u, err := url.Parse(text)
	switch {
	case text == "":
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" ||
		u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery+u.Fragment != "":
		return errors.New("must be http://host:port or https://host:port, such as http://127.0.0.1:4317")
	case len(text) > maxURLBytes:
		return fmt.Errorf("must have %d bytes at most", maxURLBytes)
	}
	*v.to = text
	return nil
}
