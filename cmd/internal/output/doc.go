// Package output prints results in three forms: tables for people, JSON and
// YAML for programs.
//
// A table's columns are named like the fields of the contract, in capitals, and
// its numbers and times are written for reading. JSON and YAML have the fields
// of the contract as they are: names with underscores, times in milliseconds,
// 64-bit numbers as strings (as protobuf's JSON has them), every field present.
package output
