// Package token makes and checks producer tokens: the proof that InitProducer
// handed out a producer id and epoch, which every append and EndTransaction
// carries. Shards check it without asking the coordinator, so that a forged
// epoch can never lock the real producer out of a shard.
//
// A token is a version byte, the id of the key, and the HMAC-SHA256 of version,
// key id, producer id and epoch, and in version 2 of the principal to which it was
// given as well: with whoever else has it, it proves nothing. Keys belong to the cluster and can be rotated:
// the newest one signs, all of them check.
package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
)

const (
	version = 2
	// unowned is the version of tokens that are anybody's.
	unowned = 1
	// Size of a token in bytes.
	Size = 1 + 4 + sha256.Size
	// MinSecret is the least number of bytes in a key's secret.
	MinSecret = 32
)

// Key signs tokens.
type Key struct {
	// ID is named in the tokens that the key signs.
	ID uint32
	// Secret has at least [MinSecret] bytes.
	Secret []byte
}

// Keyring is a set of keys that may be replaced while it is in use. The zero
// value has no keys: it signs nothing and accepts nothing.
type Keyring struct {
	keys atomic.Pointer[[]Key]
}

// Set replaces the keys; the last one signs.
func (r *Keyring) Set(keys []Key) {
	k := append([]Key(nil), keys...)
	r.keys.Store(&k)
}

// Ready reports whether there is a key.
func (r *Keyring) Ready() bool {
	k := r.keys.Load()
	return k != nil && len(*k) > 0
}

// Sign returns the token of a producer, or nil when there is no key yet. It is
// anybody's: for clusters without permissions.
func (r *Keyring) Sign(producerID uint64, epoch uint32) []byte {
	return r.sign(unowned, producerID, epoch, "")
}

// SignFor is Sign with a token that is of use to the owner only.
func (r *Keyring) SignFor(owner string, producerID uint64, epoch uint32) []byte {
	return r.sign(version, producerID, epoch, owner)
}

func (r *Keyring) sign(v byte, producerID uint64, epoch uint32, owner string) []byte {
	k := r.keys.Load()
	if k == nil || len(*k) == 0 {
		return nil
	}
	key := (*k)[len(*k)-1]
	return append(header(v, key.ID), mac(v, key, producerID, epoch, owner)...)
}

// Check reports whether tok proves producerID and epoch and is anybody's. It takes the
// same time whatever part of a forged token is wrong.
func (r *Keyring) Check(tok []byte, producerID uint64, epoch uint32) bool {
	return r.check(unowned, tok, producerID, epoch, "")
}

// CheckFor reports whether tok proves producerID and epoch and is the caller's.
func (r *Keyring) CheckFor(caller string, tok []byte, producerID uint64, epoch uint32) bool {
	return r.check(version, tok, producerID, epoch, caller)
}

func (r *Keyring) check(v byte, tok []byte, producerID uint64, epoch uint32, owner string) bool {
	k := r.keys.Load()
	if k == nil || len(tok) != Size || tok[0] != v {
		return false
	}
	id := binary.BigEndian.Uint32(tok[1:])
	for _, key := range *k {
		if key.ID == id {
			return hmac.Equal(tok[5:], mac(v, key, producerID, epoch, owner))
		}
	}
	return false
}

func header(v byte, keyID uint32) []byte {
	b := make([]byte, 0, Size)
	b = append(b, v)
	return binary.BigEndian.AppendUint32(b, keyID)
}

// mac signs; the owner comes last, behind fields of fixed length.
func mac(v byte, key Key, producerID uint64, epoch uint32, owner string) []byte {
	h := hmac.New(sha256.New, key.Secret)
	b := header(v, key.ID)
	b = binary.BigEndian.AppendUint64(b, producerID)
	b = binary.BigEndian.AppendUint32(b, epoch)
	b = append(b, owner...)
	h.Write(b)
	return h.Sum(nil)
}
