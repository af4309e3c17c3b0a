package config

import (
	"slices"

	"github.com/spf13/pflag"
)

// Sources is where settings come from, besides the defaults.
type Sources struct {
	// File is the path of the YAML file; empty: the one that ONCELOG_CONFIG
	// names, or none.
	File string
	// Environ are variables as os.Environ returns them.
	Environ []string
	// Flags were made by [AddFlags] for the same section and parsed; nil: none.
	Flags *pflag.FlagSet
}

// Load fills a section, which holds its defaults, from the file, then the
// environment, then the flags: what comes later wins. It returns an [*Error]
// with everything that is wrong; the section must not be used then.
func Load(s Section, from Sources) error { return asError(load(s, from)) }

func load(s Section, from Sources) []Problem {
	environ, problems := readEnviron(from.Environ)
	path := from.File
	if path == "" {
		if v, ok := environ[fileVariable]; ok {
			path = v.texts[0]
		}
	}
	var file map[string]setting
	if path != "" {
		doc, wrongs := readFile(path)
		problems = append(problems, wrongs...)
		file = doc[s.Name()]
	}
	flags := readFlags(from.Flags, s)
	for _, k := range s.keys() {
		given, ok := newest(k, file, environ, flags)
		if !ok {
			if k.Required {
				problems = append(problems, missing(k))
			}
			continue
		}
		if err := k.value.set(given.texts); err != nil {
			problems = append(problems, wrong(k, given.source, given.texts, err))
		}
	}
	if len(problems) == 0 {
		// Only then do the fields hold what was meant.
		problems = s.check()
	}
	return problems
}

// newest returns the setting of a key that wins.
func newest(k Key, file, environ, flags map[string]setting) (setting, bool) {
	if s, ok := flags[k.Name]; ok {
		return s, true
	}
	if s, ok := environ[k.Env()]; ok {
		if _, isList := k.value.(list); isList {
			s.texts = split(s.texts[0])
		}
		return s, true
	}
	s, ok := file[k.Name]
	return s, ok
}

// CheckFile checks all sections of a file, together with the environment. It
// returns the names of the sections that the file has, and notes on required
// keys that it leaves to flags or variables.
func CheckFile(path string, environ []string) (sections []string, notes []Problem, err error) {
	doc, problems := readFile(path)
	if doc == nil {
		return nil, nil, asError(problems)
	}
	for _, s := range Sections() {
		if _, there := doc[s.Name()]; !there {
			continue
		}
		sections = append(sections, s.Name())
		for _, p := range load(s, Sources{File: path, Environ: environ}) {
			if p.Key != "" {
				p.Key = s.Name() + "." + p.Key
			}
			switch {
			case p.Missing:
				notes = append(notes, p)
			case !slices.Contains(problems, p): // a wrong variable is wrong for every section
				problems = append(problems, p)
			}
		}
	}
	return sections, notes, asError(problems)
}
