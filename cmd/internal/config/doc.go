// Package config reads the settings of every command: defaults, below a YAML
// file, below environment variables, below flags. What is written later in
// that sentence wins.
//
// There is one table of keys per kind of process. A key's name is the same
// everywhere: `node_id` in the section of the file, ONCELOG_NODE_ID in the
// environment, --node-id on the command line. A key that nobody knows is
// refused with the nearest one that exists, in the file and in the
// environment too: a typo must never be a silent default.
//
// # File map
//
//	config.go    the sections and their defaults
//	keys.go      the table of keys of each section: name, unit, meaning
//	values.go    the kinds of values: how they are read, printed and bounded
//	load.go      precedence: file, environment, flags
//	file.go      the YAML file
//	environ.go   the environment
//	flags.go     flags
//	validate.go  what must hold between keys
//	errors.go    what is said about a wrong setting
//	print.go     the reference that `oncelog config print-defaults` prints
package config
