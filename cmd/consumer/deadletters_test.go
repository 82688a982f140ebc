package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"ossuary/internal/archive"
	"ossuary/internal/service"
)

// Events that a route cannot take are listed with the reason; once the routes are
// mended they are sent again, once, and the archive holds them as events.
func TestDeadLetters(t *testing.T) {
	w := newWorld(t)
	s := w.createStream(t)
	const textOnly = "flush: {linger: 20ms}\n        payload: text"
	w.change = map[string]string{"flush: {linger: 20ms}": textOnly}
	floor := func(url string) {
		t.Helper()
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the floor at the stream's end", func() bool {
			st, ok := status(url)
			return ok && len(st.Lanes) == 1 && st.Lanes[0].Floor == info.State.LastSeq
		})
	}
	url, stop := w.start(t)
	for i := range 10 {
		data := []byte("text")
		if i%2 == 1 {
			data = []byte{0xff, byte(i)}
		}
		m := &nats.Msg{Subject: fmt.Sprintf("orders.eu.n%d", i%3), Header: nats.Header{"Id": {fmt.Sprint(i)}}, Data: data}
		if _, err := w.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	floor(url)

	list := func(args ...string) (out []letter) {
		t.Helper()
		stdout, _ := wantCode(t, exitGood, append([]string{"dead-letters", "list", "--json", "--config", w.config}, args...)...)
		if err := json.Unmarshal([]byte(stdout), &out); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		return out
	}
	dead := list()
	if len(dead) != 5 || dead[0].Sequence != 2 || dead[0].Route != "orders.*.>" || !strings.Contains(dead[0].Reason, "UTF-8") || dead[0].State != "dead" {
		t.Fatalf("dead letters: %+v", dead)
	}
	for n, args := range map[int][][]string{
		5: {{"--reason", "UTF-8"}, {"--since", "1h"}, {"--stream", "ORDERS"}, {"--route", "orders.*.>"}},
		2: {{"--subject", "orders.*.n1"}, {"--seq", "3..6"}},
		0: {{"--reason", "large"}, {"--until", "1h"}, {"--stream", "OTHER"}, {"--route", "x"}},
	} {
		for _, a := range args {
			if got := list(a...); len(got) != n {
				t.Errorf("%v: %d letters, want %d", a, len(got), n)
			}
		}
	}
	if stdout, _ := wantCode(t, exitGood, "dead-letters", "list", "--config", w.config); !strings.Contains(stdout, "orders.eu.n1") || !strings.Contains(stdout, "UTF-8") {
		t.Errorf("list: %s", stdout)
	}
	if stdout, _ := wantCode(t, exitGood, "dead-letters", "list", "--summary", "--config", w.config); strings.Count(stdout, "\n") != 3 || !strings.Contains(stdout, "orders.*.>") {
		t.Errorf("list --summary: %s", stdout)
	}

	type result struct {
		service.RedriveResult
		All []service.RedriveLetter
	}
	redrive := func(code int, args ...string) (r result) {
		t.Helper()
		stdout, stderr := wantCode(t, code, append([]string{"dead-letters", "redrive", "--json", "--config", w.config}, args...)...)
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatalf("%v in %s%s", err, stdout, stderr)
		}
		return r
	}
	// Under the routes that they died of they stay.
	if r := redrive(exitFound); r.Outcomes[service.RedriveDead] != 5 || r.Letters != 5 {
		t.Errorf("under the old routes: %+v", r)
	}
	// The routes are mended, but the service does not know of it.
	w.write(t, nil)
	if r := redrive(exitGood, "--dry-run"); r.Outcomes[service.RedriveWould] != 5 || r.All[0].Series == "" {
		t.Errorf("dry run: %+v", r)
	}
	if _, stderr := wantCode(t, exitUnable, "dead-letters", "redrive", "--config", w.config); !strings.Contains(stderr, "goes by layout 1") {
		t.Errorf("before the service has the new routes: %s", stderr)
	}
	stop()
	w.change = nil
	url, stop = w.start(t)
	publish(t, w.js, "orders.eu.new") // the new layout holds
	floor(url)

	if r := redrive(exitGood, "--seq", "..4"); r.Outcomes[service.RedriveSent] != 2 {
		t.Errorf("some: %+v", r)
	}
	floor(url)
	if r := redrive(exitGood); r.Outcomes[service.RedriveSent] != 3 || r.Outcomes[service.RedriveEarlier] != 2 {
		t.Errorf("the rest: %+v", r)
	}
	floor(url)
	if r := redrive(exitGood); r.Outcomes[service.RedriveEarlier] != 5 {
		t.Errorf("once more: %+v", r)
	}
	if left := list(); len(left) != 0 {
		t.Errorf("dead letters are left: %+v", left)
	}
	if all := list("--all"); len(all) != 5 || all[0].State != "sent" || all[0].As <= 11 {
		t.Errorf("list --all: %+v", all)
	}
	stdout, _ := wantCode(t, exitGood, "dead-letters", "list", "--config", w.config)
	if !strings.Contains(stdout, "no dead letters") || !strings.Contains(stdout, "5 letters sent again are not shown") {
		t.Errorf("list: %s", stdout)
	}
	if code, stderr := stop(); code != exitGood {
		t.Fatalf("exit %d: %s", code, stderr)
	}

	stdout, _ = wantCode(t, exitGood, "cat", "--config", w.config, "--seq", "12..")
	if n := strings.Count(stdout, "\n"); n != 5 {
		t.Errorf("%d events were archived again:\n%s", n, stdout)
	}
	for _, want := range []string{`"Id":["1"]`, `"Ossuary-Stream":["ORDERS"]`, `"Ossuary-Sequence":["2"]`, `"base64":"/wE="`, `"Ossuary-Redrive":["test/ORDERS/0/2"]`} {
		if strings.Count(stdout, want) != 1 && !strings.Contains(want, "Stream") {
			t.Errorf("%s is not there once in\n%s", want, stdout)
		}
	}
	// Their frames name the layout that they died under.
	object, err := os.ReadFile(filepath.Join(w.store, "bucket/archive/_ossuary/dead/ORDERS/0.000001.ndjson.gz"))
	if err != nil || !bytes.Contains(object, []byte(`"layout":1,`)) || bytes.Contains(object, []byte(`"layout":0,`)) {
		t.Errorf("the frames of dead letters: %v", err)
	}
	report := verified(t, exitGood, "--config", w.config)
	if report.Result != archive.OK || report.DeadLetters != 5 || report.Events != 11 || len(report.Notes) != 0 {
		t.Errorf("verify: %+v", report)
	}
}
