package objecttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"ossuary/internal/object"
)

func appendTo(t *testing.T, s *Store, key string, pos int64, body string) (object.Appended, error) {
	t.Helper()
	return s.Append(context.Background(), key, pos, object.Body{[]byte(body)}, nil)
}

// Every way in which an append can go wrong, by what the caller is told and
// what became of the object.
func TestFaults(t *testing.T) {
	for _, tc := range []struct {
		name    string
		fault   Fault
		kind    object.Kind // of the error
		ok      bool        // no error
		now     string      // the object right after
		settled string      // and after one more operation
	}{
		{"none", Fault{}, 0, true, "ab", "ab"},
		{"not applied", NotApplied(), object.InDoubt, false, "a", "a"},
		{"lost", Lost(), object.InDoubt, false, "ab", "ab"},
		{"late", Late(), object.InDoubt, false, "a", "ab"},
		{"throttled", Throttled(), object.Throttled, false, "a", "a"},
		{"hold", Hold(), object.Refused, false, "a", "a"},
		{"garbled next", GarbledNext(), 0, true, "ab", "ab"},
		{"garbled crc", GarbledCRC(), 0, true, "ab", "ab"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New()
			s.Fault = OnNth(2, tc.fault)
			if _, err := appendTo(t, s, "k", 0, "a"); err != nil {
				t.Fatal(err)
			}
			_, err := appendTo(t, s, "k", 1, "b")
			if (err == nil) != tc.ok {
				t.Fatalf("error %v", err)
			}
			if err != nil && object.KindOf(err) != tc.kind {
				t.Errorf("kind %v, want %v", object.KindOf(err), tc.kind)
			}
			if got := string(s.Bytes("k")); got != tc.now {
				t.Errorf("object is %q, want %q", got, tc.now)
			}
			info, err := s.Head(context.Background(), "k")
			if err != nil || info.Length != int64(len(tc.now)) {
				t.Errorf("the next operation sees %+v, %v", info, err)
			}
			if got := string(s.Bytes("k")); got != tc.settled {
				t.Errorf("settled as %q, want %q", got, tc.settled)
			}
		})
	}
}

// A late append whose position was taken meanwhile changes nothing.
func TestLateIsRefusedWhenOvertaken(t *testing.T) {
	s := New()
	s.Fault = OnNth(1, Late())
	if _, err := appendTo(t, s, "k", 0, "late"); object.KindOf(err) != object.InDoubt {
		t.Fatal(err)
	}
	if _, err := appendTo(t, s, "k", 0, "first"); err != nil {
		t.Fatal(err)
	}
	s.Arrive()
	if got := string(s.Bytes("k")); got != "first" {
		t.Fatalf("object is %q", got)
	}
}

// A fault that is planted with the caller hits that call only, and a later append
// waits for its operations.
func TestPlantedLater(t *testing.T) {
	s := New()
	ctx := Plant(t.Context(), Fault{Late: true, Later: 1})
	if _, err := s.Append(ctx, "k", 0, object.Body{[]byte("late")}, nil); object.KindOf(err) != object.InDoubt {
		t.Fatal(err)
	}
	for i, want := range []string{"", "late"} {
		if _, err := s.Head(t.Context(), "other"); object.KindOf(err) != object.NotFound {
			t.Fatal(err)
		}
		if got := string(s.Bytes("k")); got != want {
			t.Fatalf("after %d operations the object is %q", i+1, got)
		}
	}
	if f := Planted(ctx); !f.Late || f.Later != 1 {
		t.Fatalf("%+v", f)
	}
}

func TestCutRead(t *testing.T) {
	s := New()
	s.AppendRaw("k", []byte("0123456789"))
	s.Fault = OnNth(1, Fault{Cut: 4})
	r, err := s.Read(context.Background(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(r)
	var e *object.Error
	if string(p) != "0123" || !errors.As(err, &e) || e.Kind != object.InDoubt || e.Op != "read" {
		t.Fatalf("%q, %v", p, err)
	}
}

// Of all that append at one position, one wins.
func TestConcurrentAppends(t *testing.T) {
	s := New()
	var want []string
	for pos := int64(0); pos < 200; pos += 2 {
		var wg sync.WaitGroup
		won := make(chan string, 8)
		for i := range 8 {
			wg.Go(func() {
				body := fmt.Sprintf("%d\n", i)
				if _, err := s.Append(context.Background(), "k", pos, object.Body{[]byte(body)}, nil); err == nil {
					won <- body
				} else if object.KindOf(err) != object.Mismatch {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		close(won)
		winners := slices.Collect(func(yield func(string) bool) {
			for b := range won {
				yield(b)
			}
		})
		if len(winners) != 1 {
			t.Fatalf("winners %q", winners)
		}
		want = append(want, winners...)
	}
	var got []string
	for p := s.Bytes("k"); len(p) > 0; p = p[2:] {
		got = append(got, string(p[:2]))
	}
	if !slices.Equal(got, want) {
		t.Fatal("the object is not what the winners wrote")
	}
}

func TestConformance(t *testing.T) {
	s := New()
	Conformance(t, Target{
		Store:  s,
		Put:    func(_ context.Context, key string, p []byte) error { s.Put(key, p); return nil },
		Delete: func(_ context.Context, key string) error { s.Delete(key); return nil },
		Prefix: "conformance/",
	})
}
