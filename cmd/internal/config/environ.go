package config

import (
	"regexp"
	"slices"
	"strings"
)

// fileVariable names the file when --config does not.
const fileVariable = envPrefix + "CONFIG"

// serviceVariable matches what Kubernetes puts into the environment of every
// container for a Service whose name begins with oncelog. They are nobody's
// settings and must not stop a node from starting.
var serviceVariable = regexp.MustCompile(`^ONCELOG_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// readEnviron returns the settings among the variables ("NAME=value") by name of
// the variable, and refuses names with our prefix that no section knows. A name
// that another section knows is left alone: the variables of a machine are
// shared by all its processes.
func readEnviron(environ []string) (map[string]setting, []Problem) {
	known := []string{fileVariable}
	for _, s := range Sections() {
		for _, k := range s.keys() {
			known = append(known, k.Env())
		}
	}
	settings := map[string]setting{}
	var problems []Problem
	for _, variable := range environ {
		name, text, _ := strings.Cut(variable, "=")
		switch {
		case !strings.HasPrefix(name, envPrefix):
		case slices.Contains(known, name):
			settings[name] = setting{source: name, texts: []string{text}}
		case serviceVariable.MatchString(name):
		default:
			problems = append(problems, unknown("environment", "variable", name, known))
		}
	}
	return settings, problems
}

// split returns the elements of a list on one line.
func split(text string) []string {
	var parts []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
