//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"ossuary/e2e/rig"
	"ossuary/internal/ossemu"
)

// resident is the most memory that a process ever had, in bytes.
func (i *instance) resident() int64 {
	i.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.PID()))
	if err != nil {
		i.t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) == 3 && f[0] == "VmHWM:" {
			return rig.Must(strconv.ParseInt(f[1], 10, 64)) << 10
		}
	}
	i.t.Fatal("no VmHWM")
	return 0
}

// The store takes no events, and the stream holds far more of them than
// limits.memory. The process stays within what the documents say, and when the
// store is back everything is archived.
func TestMemoryStaysBounded(t *testing.T) {
	t.Parallel()
	const limit = 64 << 20
	// As in ARCHITECTURE.md, Memory.
	const most = limit + 100<<20
	backlog := sized(t, size{events: 150 << 20}, size{events: 400 << 20}, size{events: 1 << 30}).events

	w := newWorld(t)
	a := w.instance("a", settings{more: "limits: {memory: 64MiB, open_series: 100}\n", routes: `      - name: memory
        subjects: ["ev.>"]
        series: "memory/{{token(2)}}"
`})
	a.Start()
	a.WaitFor("it runs", func(s rig.Status) bool { return s.State == "running" })
	w.store.Fault(ossemu.Rule{Op: "append", Key: "*/memory/*", Action: "error", Status: 503, Code: "ServiceUnavailable"})

	// Nothing that compresses well: what is sent is as large as what waits.
	noise := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(w.seed, 1))
	for i := range noise {
		noise[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[r.IntN(64)]
	}
	lengths := []int{100, 1 << 10, 4 << 10, 16 << 10, 200 << 10}
	average := 0
	for _, n := range lengths {
		average += n / len(lengths)
	}
	n := backlog / average
	w.put(n, func(i int) *nats.Msg {
		m := nats.NewMsg(fmt.Sprintf("ev.%d", i%7))
		from := i * 977 % (len(noise) / 2)
		m.Data = fmt.Appendf(nil, `{"i":%d,"noise":"%s"}`, i, noise[from:from+lengths[i%len(lengths)]])
		return m
	})

	var used int64
	rig.Eventually(t, patience, "the budget is full", func() (bool, string) {
		b, err := a.Get("/status")
		var doc struct{ Memory struct{ Used int64 } }
		if err == nil {
			err = json.Unmarshal(b, &doc)
		}
		used = doc.Memory.Used
		return used > limit*9/16, fmt.Sprint(used, err)
	})
	atRest := a.resident()
	w.store.ClearFaults()
	rig.Eventually(t, patience+time.Duration(backlog>>20)*100*time.Millisecond, "the backlog is archived", func() (bool, string) {
		s, err := a.Status()
		return err == nil && s.Floor >= uint64(n), fmt.Sprintf("%+v %v", s, err)
	})
	peak := a.resident()
	t.Logf("%d MiB wait in the stream, limits.memory is %d MiB: resident at most %d MiB while the store was away, %d MiB over all; %d are allowed",
		backlog>>20, limit>>20, atRest>>20, peak>>20, most>>20)
	if peak > most && os.Getenv("OSSUARY_RACE") == "" {
		t.Errorf("%d MiB resident, at most %d MiB are documented", peak>>20, most>>20)
	}
	if used > limit*5/8+4<<20 { // a batch's buffer may have grown with its last event
		t.Errorf("%d bytes wait, five eighths of limits.memory are %d", used, limit*5/8)
	}
	a.Stop()
	want := w.messages(rig.StreamName, func(subject string, _ uint64) string { return "memory/" + strings.TrimPrefix(subject, "ev.") })
	a.clean(n)
	w.same("everything", w.read(w.objects()), want)
}
