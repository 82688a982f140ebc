package backoff

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestJitterSpreadsEvenly(t *testing.T) {
	const n, d = 100_000, time.Second
	var buckets [10]int
	for i := range n {
		p := jitter(d, uint64(1_790_000_000_000_000_000+i*137))
		if p < d/2 || p >= d*3/2 {
			t.Fatalf("%s is out of range", p)
		}
		buckets[(p-d/2)*10/d]++
	}
	for i, got := range buckets {
		if got < n/10*9/10 || got > n/10*11/10 {
			t.Errorf("%d of %d pauses in the %d. tenth", got, n, i+1)
		}
	}
}

func TestPausesGrowToTheirLimit(t *testing.T) {
	b := New(100*time.Millisecond, time.Second, 2)
	for round := range 2 {
		for i, ms := range []int{100, 200, 400, 800, 1000, 1000} {
			want := time.Duration(ms) * time.Millisecond
			if got := b.Next(); got < want/2 || got > want*3/2 {
				t.Errorf("round %d, pause %d: %s, want about %s", round, i, got, want)
			}
		}
		b.Reset()
	}
}

func TestSimulatedTimeGivesTheSamePauses(t *testing.T) {
	var runs [2][8]time.Duration
	for i := range runs {
		synctest.Test(t, func(*testing.T) {
			b := New(time.Second, time.Minute, 1.5)
			for j := range runs[i] {
				runs[i][j] = b.Next()
				time.Sleep(runs[i][j])
			}
		})
	}
	if runs[0] != runs[1] {
		t.Errorf("%v\n%v", runs[0], runs[1])
	}
}
