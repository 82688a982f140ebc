package main

import (
	"os"
	"reflect"
	"testing"
)

// most bounds the states of one instance; none needs as many.
const most = 6_000_000

func TestInstances(t *testing.T) {
	var all totals
	for _, in := range instances() {
		t.Run(in.name, func(t *testing.T) {
			if in.long && os.Getenv("OSSUARY_LONG") == "" {
				t.Skip("takes minutes; set OSSUARY_LONG")
			}
			r := explore(in, asIs, most)
			t.Log(r.line(in))
			all.add(&r)
			if r.invariant != "" || !r.exhaustive {
				t.Errorf("%s", r.words(in))
			}
		})
	}
	// Together they must meet everything, or they prove less than they seem to.
	for i, n := range all.met {
		t.Logf("%10d %s", n, metWords[i])
		if n == 0 && all.instances > 1 {
			t.Errorf("no instance has met: %s", metWords[i])
		}
	}
}

func TestPlantedBugs(t *testing.T) {
	if all := plantedBugs(); len(all) != bugs-1 {
		t.Errorf("%d of %d bugs are in the table", len(all), bugs-1)
	}
	for _, b := range plantedBugs() {
		t.Run(b.what, func(t *testing.T) {
			if b.instance == "" {
				t.Skip(b.why)
			}
			in := find(b.instance)
			if in == nil {
				t.Fatalf("there is no instance %q", b.instance)
			}
			r := explore(in, b.bug, most)
			t.Log(r.line(in))
			if r.invariant != b.invariant {
				t.Errorf("it breaks %q, not %q\n%s", r.invariant, b.invariant, r.words(in))
			}
			if r.invariant != "" && len(r.trace) < 2 {
				t.Error("there is no trace")
			}
		})
	}
}

// States are compared and hashed as bytes: there must be none between fields.
func TestNoPadding(t *testing.T) {
	var size func(reflect.Type) uintptr
	size = func(ty reflect.Type) (n uintptr) {
		switch ty.Kind() {
		case reflect.Array:
			return uintptr(ty.Len()) * size(ty.Elem())
		case reflect.Struct:
			for i := range ty.NumField() {
				n += size(ty.Field(i).Type)
			}
			if n != ty.Size() {
				t.Errorf("%s: %d bytes of fields in %d", ty, n, ty.Size())
			}
			return ty.Size()
		}
		return ty.Size()
	}
	size(reflect.TypeFor[writer]())
	size(reflect.TypeFor[request]())
}
