package router

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MaxShard is how many digits a shard has at most: 65,536 shards.
const MaxShard = 4

// Sharded is the name of a series under a layout with that many digits: the
// first digits of the SHA-256 of the name, a slash, and the name. Object stores
// split their index by ranges of keys, and names that begin with the time or with
// few words all fall into one range, which then has one server's speed.
//
// The name can be told from it, so different names stay different.
func Sharded(name string, digits int) string {
	if digits <= 0 {
		return name
	}
	return shardOf(name, digits) + "/" + name
}

func shardOf(name string, digits int) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])[:digits]
}

// Unsharded takes the shard off a name that Sharded has made; of other names it
// returns false, but for the rare one that begins with its own hash by chance.
func Unsharded(series string) (name string, ok bool) {
	shard, name, ok := strings.Cut(series, "/")
	if !ok || name == "" || len(shard) < 1 || len(shard) > MaxShard || shard != shardOf(name, len(shard)) {
		return "", false
	}
	return name, true
}

func (l Layout) checkShard() (what, mend string) {
	if l.Shard < 0 || l.Shard > MaxShard {
		return fmt.Sprintf("%d digits of a shard", l.Shard), fmt.Sprintf("use 1 to %d, or 0 for none", MaxShard)
	}
	return "", ""
}

// room is what the shard takes of a key.
func (l Layout) room() int {
	if l.Shard == 0 {
		return 0
	}
	return l.Shard + len("/")
}

// shardShape is what stands before the names of l, coarsely.
func (l Layout) shardShape() []atom {
	if l.Shard == 0 {
		return nil
	}
	var out []atom
	for range l.Shard {
		out = append(out, atom{class: tok})
	}
	return append(out, atom{class: lit, c: '/'})
}
