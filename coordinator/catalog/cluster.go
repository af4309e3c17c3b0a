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
