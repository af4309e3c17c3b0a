// Package engine runs one task of a topology: records of a partition in, records
// and changes of stores out. It has no clock, goroutine or network: what a task
// does follows from its stores, the records in their order, and the times that it
// is told. So the test driver and the workers run the same code.
//
// A task works within a transaction. What it changes in its stores lies above what
// is committed until [Task.Commit] puts it there or [Task.Rollback] throws it away.
// [Task.Flush] gives the transaction the changelog: of each key that was changed
// the last value, whatever happened to it in between.
package engine
