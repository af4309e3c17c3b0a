package catalog

import "slices"

// initCluster: the first one wins. Every coordinator leader may propose one
// when it finds no cluster id, so a second one is no mistake.
func (c *Catalog) initCluster(cmd InitCluster) Result {
	if c.clusterID != "" {
		return Result{ClusterID: c.clusterID, KeyID: c.activeKey}
	}
	switch {
	case !validName(cmd.ClusterID, MaxClusterIDBytes):
		return refuse(CodeInvalidClusterID)
	case !validSecret(cmd.KeySecret):
		return refuse(CodeInvalidKey)
	case !validSettings(cmd.Settings):
		return refuse(CodeInvalidSettings)
	}
	c.clusterID = cmd.ClusterID
	c.settings = cmd.Settings
	c.lastKey = 1
	c.activeKey = 1
	c.keys = []Key{{ID: 1, Secret: slices.Clone(cmd.KeySecret), Created: c.now}}
	return Result{Changed: true, ClusterID: c.clusterID, KeyID: 1}
}

func (c *Catalog) updateSettings(cmd UpdateSettings) Result {
	if !validSettings(cmd.Settings) {
		return refuse(CodeInvalidSettings)
	}
	changed := c.settings != cmd.Settings
	c.settings = cmd.Settings
	return Result{Changed: changed}
}

func validSettings(s Settings) bool {
	return s.ShardsPerNode <= MaxShardsPerNode &&
		s.DefaultPartitions <= MaxPartitionsPerTopic &&
		s.DefaultReplicationFactor <= MaxReplicationFactor
}

// addKey answers a repeated secret with the id it got, so that a proposal
// whose answer was lost can be repeated.
func (c *Catalog) addKey(cmd AddKey) Result {
	if !validSecret(cmd.Secret) {
		return refuse(CodeInvalidKey)
	}
	for _, k := range c.keys {
		if slices.Equal(k.Secret, cmd.Secret) {
			return Result{KeyID: k.ID}
		}
	}
	if len(c.keys) >= MaxKeys {
		return refuseNumbers(CodeLimitExceeded, len(c.keys)+1, MaxKeys)
	}
	c.lastKey++
	key := Key{ID: c.lastKey, Secret: slices.Clone(cmd.Secret), Created: c.now}
	c.keys = append(slices.Clone(c.keys), key)
	return Result{Changed: true, KeyID: key.ID}
}

func (c *Catalog) activateKey(cmd ActivateKey) Result {
	if c.keyIndex(cmd.ID) < 0 {
		return refuse(CodeUnknownKey)
	}
	changed := c.activeKey != cmd.ID
	c.activeKey = cmd.ID
	return Result{Changed: changed, KeyID: cmd.ID}
}

func (c *Catalog) removeKey(cmd RemoveKey) Result {
	i := c.keyIndex(cmd.ID)
	switch {
	case i < 0:
		return refuse(CodeUnknownKey)
	case cmd.ID == c.activeKey:
		return refuse(CodeKeyInUse)
	}
	c.keys = slices.Delete(slices.Clone(c.keys), i, i+1)
	return Result{Changed: true, KeyID: cmd.ID}
}

func validSecret(s []byte) bool { return len(s) >= MinKeyBytes && len(s) <= MaxKeyBytes }

func (c *Catalog) registerNode(cmd RegisterNode) Result {
	if !validNode(cmd) {
		return refuse(CodeInvalidNode)
	}
	old, known := c.nodes[cmd.ID]
	switch {
	case known && old.Instance != cmd.Instance:
		return Result{Code: CodeNodeMismatch, Node: old}
	case !known && len(c.nodes) >= MaxNodes:
		return refuseNumbers(CodeLimitExceeded, len(c.nodes)+1, MaxNodes)
	}
	node := Node{
		ID:            cmd.ID,
		ClientAddress: cmd.ClientAddress,
		PeerAddress:   cmd.PeerAddress,
		Instance:      cmd.Instance,
		RegisteredAt:  c.now,
	}
	if known {
		node.RegisteredAt = old.RegisteredAt
	}
	c.nodes[cmd.ID] = node
	return Result{Changed: node != old, Node: node}
}

func validNode(cmd RegisterNode) bool {
	return cmd.ID > 0 &&
		cmd.ClientAddress != "" && len(cmd.ClientAddress) <= MaxAddressBytes &&
		cmd.PeerAddress != "" && len(cmd.PeerAddress) <= MaxAddressBytes &&
		cmd.Instance != "" && len(cmd.Instance) <= MaxInstanceBytes
}

// unregisterNode only forgets a node that hosts nothing. After that even a new
// data directory under the same id hurts nobody: no shard lists it as a voter,
// and shard ids are never reused.
func (c *Catalog) unregisterNode(cmd UnregisterNode) Result {
	node, ok := c.nodes[cmd.ID]
	if !ok {
		return refuse(CodeUnknownNode)
	}
	held := 0
	for _, s := range c.Shards() {
		if slices.Contains(s.Replicas, cmd.ID) {
			held++
		}
	}
	if held > 0 {
		return refuseNumbers(CodeNodeInUse, 0, held)
	}
	delete(c.nodes, cmd.ID)
	return Result{Changed: true, Node: node}
}
