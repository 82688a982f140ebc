package ossemu_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// keyModel is what a writer knows of its key: what each version holds, the newest
// first, and what it may be instead if the operation in flight was carried out.
type keyModel struct {
	versions, instead []string
}

const deleteMarker = "(delete marker)"

// step chooses an operation, and says what the key has after it.
func (m *keyModel) step(r *rand.Rand) (method, query, body string, after []string) {
	body = strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(50_000))
	current := ""
	if len(m.versions) > 0 {
		current = m.versions[0]
	}
	there := current != "" && current != deleteMarker
	switch n := r.IntN(10); {
	case n == 0 && there:
		return "DELETE", "", "", append([]string{deleteMarker}, m.versions...)
	case n == 1:
		return "PUT", "", "put " + body, append([]string{"put " + body}, m.versions...)
	case there && !strings.HasPrefix(current, "put "):
		after = slices.Clone(m.versions)
		after[0] += body
		return "POST", fmt.Sprintf("?append&position=%d", len(current)), body, after
	case there:
		return "DELETE", "", "", append([]string{deleteMarker}, m.versions...)
	}
	return "POST", "?append&position=0", body, append([]string{body}, m.versions...)
}

// settle compares the key with what the writer knows of it, and takes over what
// has become of the operation in flight.
func (m *keyModel) settle(t *testing.T, url, key string) {
	t.Helper()
	ids, ok := versionIDs(url, key)
	if !ok {
		t.Fatal("the versions cannot be listed")
	}
	var got []string
	for _, id := range ids {
		resp, text := do(t, "GET", url+"/versioned/"+key+"?versionId="+id, "")
		if resp.StatusCode == http.StatusMethodNotAllowed {
			text = deleteMarker
		}
		got = append(got, text)
	}
	switch {
	case slices.Equal(got, m.versions):
	case m.instead != nil && slices.Equal(got, m.instead):
		m.versions = m.instead
	default:
		t.Fatalf("%s has %s, confirmed were %s, in flight %s", key, lengths(got), lengths(m.versions), lengths(m.instead))
	}
	m.instead = nil
}

// lengths is what a message can say of versions.
func lengths(versions []string) string {
	var b strings.Builder
	for _, v := range versions {
		fmt.Fprintf(&b, "[%.8s %d]", v, len(v))
	}
	return b.String()
}

// versionIDs lists a key's versions, the newest first; false: the server has gone.
func versionIDs(url, key string) ([]string, bool) {
	text, ok := request("GET", url+"/versioned/?versions&prefix="+key, "")
	var ids []string
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if err != nil {
			return ids, ok
		}
		if el, is := token.(xml.StartElement); is && el.Name.Local == "VersionId" {
			var id string
			if d.DecodeElement(&id, &el) == nil {
				ids = append(ids, id)
			}
		}
	}
}

// request says whether the server has answered that it is done.
func request(method, url, body string) (string, bool) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return "", false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", false
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	return string(p), err == nil && resp.StatusCode < 300
}

// work does one thing after another until the server has gone; it returns how many
// were confirmed.
func (m *keyModel) work(url, key string, r *rand.Rand) int {
	for n := 0; ; n++ {
		method, query, body, after := m.step(r)
		if len(m.versions) > 6 && r.IntN(3) == 0 {
			ids, ok := versionIDs(url, key)
			if !ok {
				return n
			}
			i := r.IntN(len(ids))
			method, query, body, after = "DELETE", "?versionId="+ids[i], "", slices.Delete(slices.Clone(m.versions), i, i+1)
		}
		m.instead = after
		if _, ok := request(method, url+"/versioned/"+key+query, body); !ok {
			return n
		}
		m.versions, m.instead = after, nil
	}
}

// A server that is killed under load has, when it is back, each version whose
// operation it confirmed, and of the others all or nothing.
func TestKillVersions(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	rounds := 2
	if long() {
		rounds = 50
	}
	models := make([]keyModel, 6)
	done := make([]int, len(models))
	for round := range rounds {
		cmd, url := startChild(t, dir)
		if round == 0 {
			if _, ok := request("PUT", url+"/versioned", ""); !ok {
				t.Fatal("no bucket")
			}
			if _, ok := request("PUT", url+"/versioned?versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"); !ok {
				t.Fatal("no versions")
			}
		}
		var wg sync.WaitGroup
		for i := range models {
			key := fmt.Sprintf("dir/%d", i)
			r := rand.New(rand.NewPCG(random.Uint64(), 0))
			models[i].settle(t, url, key)
			wg.Go(func() { done[i] += models[i].work(url, key, r) })
		}
		time.Sleep(time.Duration(100+random.IntN(300)) * time.Millisecond) // load, for a time that differs
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		cmd.Wait()
		http.DefaultClient.CloseIdleConnections()
	}
	_, url := startChild(t, dir)
	total := 0
	for i := range models {
		models[i].settle(t, url, fmt.Sprintf("dir/%d", i))
		total += done[i]
	}
	if total == 0 {
		t.Error("nothing was done")
	}
	t.Logf("%d kills, %d operations", rounds, total)
}
