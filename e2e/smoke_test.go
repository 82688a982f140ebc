//go:build unix

package e2e

import "testing"

// Nothing fails: everything of the stream is in the archive, and a stop is clean.
func TestUndisturbed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.instance("a", settings{})
	p := w.publish(sized(t, size{events: 5000}, size{events: 20000}, size{events: 100000}).events)
	a.Start()
	p.Release(p.Total)
	a.WaitFloor(w.published())
	a.Stop()
	w.prove()
}
