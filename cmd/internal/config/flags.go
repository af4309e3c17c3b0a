package config

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags adds a flag for every key of a section. They take any text: it is
// read by [Load], after file and environment, so that all that is wrong is said
// at once. With names, only those keys get a flag.
func AddFlags(fs *pflag.FlagSet, s Section, names ...string) {
	for _, k := range s.keys() {
		if len(names) > 0 && !slices.Contains(names, k.Name) {
			continue
		}
		_, isList := k.value.(list)
		f := fs.VarPF(&flagValue{initial: k.Value(), kind: flagKind(k), list: isList}, k.Flag(), k.shorthand, flagUsage(k))
		if _, isBool := k.value.(boolValue); isBool {
			f.NoOptDefVal = "true" // --join is --join=true
		}
	}
}

// flagUsage is the first sentence of the documentation: the rest is in the
// reference.
func flagUsage(k Key) string {
	first, _, _ := strings.Cut(k.Doc, ". ")
	first = strings.ReplaceAll(strings.TrimSuffix(first, "."), "`", "'") // between backquotes pflag looks for the name of the value
	first = strings.ToLower(first[:1]) + first[1:]
	if k.Required {
		first += " (required)"
	}
	return first
}

// flagKind is the word that help shows for the value.
func flagKind(k Key) string {
	switch v := k.value.(type) {
	case addressValue:
		return "host:port"
	case addressesValue:
		return "host:port,..."
	case membersValue:
		return "ID=CLIENT/PEER"
	case durationValue:
		return "duration"
	case bytesValue:
		return "bytes"
	case choiceValue, levelValue:
		return v.unit()
	case textValue:
		return "string"
	case pathValue:
		return "file"
	case boolValue:
		return "bool"
	default:
		return "n"
	}
}

// flagValue keeps what was given on the command line.
type flagValue struct {
	initial string
	kind    string
	list    bool
	texts   []string
}

// String returns the default, for help.
func (f *flagValue) String() string {
	if len(f.texts) > 0 {
		return strings.Join(f.texts, ",")
	}
	return f.initial
}

// Type returns the word for the value.
func (f *flagValue) Type() string { return f.kind }

// Set keeps one occurrence: of a scalar the last one counts, a list grows.
func (f *flagValue) Set(text string) error {
	if f.list {
		f.texts = append(f.texts, split(text)...)
	} else {
		f.texts = []string{text}
	}
	return nil
}

// readFlags returns the settings of the flags that were given.
func readFlags(fs *pflag.FlagSet, s Section) map[string]setting {
	settings := map[string]setting{}
	if fs == nil {
		return settings
	}
	for _, k := range s.keys() {
		flag := fs.Lookup(k.Flag())
		if flag == nil || !flag.Changed {
			continue
		}
		if v, ok := flag.Value.(*flagValue); ok {
			settings[k.Name] = setting{source: "--" + k.Flag(), texts: v.texts}
		}
	}
	return settings
}
