package objecttest

import (
	"context"
	"testing"

	"ossuary/internal/object"
)

// Operations of several writers are counted as one sequence; a plan that was met
// prints itself in the form in which it is read; who dies asks for nothing more.
func TestPlan(t *testing.T) {
	const text = "2 response lost; 4 crash after, another without ledger"
	world, steps, err := ParsePlan("some world: " + text)
	if err != nil || world != "some world" {
		t.Fatal(world, err)
	}
	p, s := &Plan{steps: steps}, New()
	ctx, kill := context.WithCancel(t.Context())
	a, b := NewGate(p, s, func() { t.Error("the wrong writer dies") }), NewGate(p, s, kill)
	add := func(g *Gate, ctx context.Context, position int64, want object.Kind, ok bool) {
		t.Helper()
		if _, err := g.Append(ctx, "k", position, object.Body{[]byte("x")}, nil); (err == nil) != ok || !ok && object.KindOf(err) != want {
			t.Fatal(err)
		}
	}
	add(a, t.Context(), 0, 0, true)
	add(b, ctx, 1, object.InDoubt, false)
	add(a, t.Context(), 1, object.Mismatch, false)
	add(b, ctx, 2, object.InDoubt, false)
	add(b, ctx, 3, object.InDoubt, false) // by its context
	if got := string(s.Bytes("k")); got != "xxx" {
		t.Errorf("the object is %q", got)
	}
	if d := b.Death(); d == nil || !d.Other || !d.Lost || a.Death() != nil || ctx.Err() == nil {
		t.Errorf("death %+v", d)
	}
	if p.String() != text || len(p.log) != 4 {
		t.Errorf("%q, %q", p, p.log)
	}
	for _, bad := range []string{"", "w: ", "w: 5", "w: x late", "w: 5 no such way"} {
		if _, _, err := ParsePlan(bad); err == nil {
			t.Errorf("%q is read as a plan", bad)
		}
	}
}
