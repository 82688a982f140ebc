package event

import (
	"bytes"
	"crypto/sha256"
	"math/bits"
)

// Tree is an RFC 6962 Merkle tree that grows at its end. It keeps the roots of
// its full subtrees only, one per bit of its size. The zero value is empty.
type Tree struct {
	size  uint64
	roots []Hash // of the full subtrees, largest first
}

// Add appends a leaf.
func (t *Tree) Add(leaf []byte) {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(leaf)
	var node Hash
	h.Sum(node[:0])
	for range bits.TrailingZeros64(^t.size) { // each full subtree of equal size at the end
		last := len(t.roots) - 1
		node = pair(t.roots[last], node)
		t.roots = t.roots[:last]
	}
	t.roots = append(t.roots, node)
	t.size++
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Root is the tree's hash; of no leaves, the SHA-256 of nothing.
func (t *Tree) Root() Hash {
	n := len(t.roots)
	if n == 0 {
		return sha256.Sum256(nil)
	}
	root := t.roots[n-1]
	for i := n - 2; i >= 0; i-- {
		root = pair(t.roots[i], root)
	}
	return root
}

func pair(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// EventsRoot is Content.EventsRoot of a body: the root over its lines without
// their newlines. A body may come in pieces of whole lines.
func EventsRoot(body ...[]byte) Hash {
	var t Tree
	for _, p := range body {
		for len(p) > 0 {
			line, rest, _ := bytes.Cut(p, newline)
			t.Add(line)
			p = rest
		}
	}
	return t.Root()
}
