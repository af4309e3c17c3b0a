package raftstore

// BackupNow is the part of Backup that the loop does. For a store that is turned by
// hand it must not run beside a turn.
func (g *Group) BackupNow() (*Backup, error) { return g.store.loop.backup(g.replica) }
