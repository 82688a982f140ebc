package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var when = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)

func TestEnvelopeBytes(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	const front = `{"seq":17,"ts":"2026-11-22T10:00:00.123456789Z","subject":"orders.eu.created"`
	for name, c := range map[string]struct {
		payload Payload
		data    string
		want    string // behind front; "" for poison
	}{
		"object":           {Auto, `{"id":1}`, `,"data":{"id":1}}`},
		"blanks kept":      {Auto, `{ "id" :	1e-5 }`, `,"data":{ "id" :	1e-5 }}`},
		"html":             {Auto, `"<a&b>"`, `,"data":"<a&b>"}`},
		"empty":            {Auto, ``, `,"text":""}`},
		"outer space":      {Auto, ` 1`, `,"text":" 1"}`},
		"outer newline":    {Auto, "1\n", `,"text":"1\n"}`},
		"inner newline":    {Auto, "[1,\r\n2]", `,"text":"[1,\r\n2]"}`},
		"text":             {Auto, "a\"\\\x00\x1f\t<&>é\u2028", `,"text":"a\"\\\u0000\u001f\t<&>é` + "\u2028" + `"}`},
		"binary":           {Auto, "\xff\x00", `,"base64":"/wA="}`},
		"binary in JSON":   {Auto, "\"\xff\"", `,"base64":"Iv8i"}`},
		"deep":             {Auto, deep(200), `,"data":` + deep(200) + `}`},
		"too deep":         {Auto, deep(201), `,"text":"` + deep(201) + `"}`},
		"two values":       {Auto, `1 2`, `,"text":"1 2"}`},
		"leading zero":     {Auto, `01`, `,"text":"01"}`},
		"json":             {JSON, `{"id":1}`, `,"data":{"id":1}}`},
		"json unchecked":   {JSON, `{"id":`, `,"data":{"id":}`},
		"json newline":     {JSON, "[1,\n2]", ""},
		"json return":      {JSON, "[1,\r2]", ""},
		"json empty":       {JSON, ``, `,"text":""}`},
		"json outer space": {JSON, `1 `, `,"text":"1 "}`},
		"text of JSON":     {Text, `{}`, `,"text":"{}"}`},
		"text of binary":   {Text, "\xff", ""},
		"base64":           {Base64, `{}`, `,"base64":"e30="}`},
	} {
		t.Run(name, func(t *testing.T) {
			e := &Event{Sequence: 17, Time: when, Subject: "orders.eu.created", Data: []byte(c.data)}
			got, err := Encoder{Payload: c.payload}.Append([]byte("x"), e)
			if c.want == "" {
				var poison *PoisonError
				if !errors.As(err, &poison) || string(got) != "x" {
					t.Fatalf("got %q, %v, want a PoisonError and dst as it was", got, err)
				}
				return
			}
			if want := "x" + front + c.want + "\n"; err != nil || string(got) != want {
				t.Fatalf("got  %q, %v\nwant %q", got, err, want)
			}
			var l Line
			if err := DecodeLine(got[1:], &l); err != nil || string(l.Data) != c.data {
				t.Fatalf("decoded %q, %v", l.Data, err)
			}
		})
	}
}

func TestEnvelopeHeaders(t *testing.T) {
	e := &Event{Sequence: 1, Time: when, Subject: "a\xff", Header: map[string][]string{
		"b": {"2", ""}, "A": {"1"}, "bin": {"\xff", "x"}, "\xfe": {}, "none": {}, "Nats-Pin-Id": {"p"},
	}, Data: []byte("1")}
	got, err := Encoder{}.Append(nil, e)
	const want = `{"seq":1,"ts":"2026-11-22T10:00:00.123456789Z","subject64":"Yf8=",` +
		`"headers":{"A":["1"],"b":["2",""],"none":[]},"headers64":{"Ymlu":["/w==","eA=="],"/g==":[]},"data":1}` + "\n"
	if err != nil || string(got) != want {
		t.Fatalf("got  %s %v\nwant %s", got, err, want)
	}
	e.Header = map[string][]string{"Nats-Pin-Id": {"p"}}
	if got, _ = (Encoder{}).Append(nil, e); bytes.Contains(got, []byte("headers")) {
		t.Fatalf("delivery-time header was written: %s", got)
	}
}

func TestDeadLetter(t *testing.T) {
	e := &Event{Sequence: 5, Time: when, Subject: "s", Data: []byte("\xff")}
	got := AppendDeadLetter(nil, e, "no\nname\xff", "r")
	const want = `{"seq":5,"ts":"2026-11-22T10:00:00.123456789Z","subject":"s","reason":"no\nname` + "\ufffd" + `","route":"r","base64":"/w=="}` + "\n"
	if string(got) != want {
		t.Fatalf("got %s\nwant %s", got, want)
	}
	var l Line
	if err := DecodeLine(got, &l); err != nil || !l.Dead || l.Reason != "no\nname\ufffd" || l.Route != "r" || string(l.Data) != "\xff" {
		t.Fatalf("decoded %+v, %v", l, err)
	}
}

func TestRawLines(t *testing.T) {
	for _, c := range []struct {
		mode       Newline
		data, want string
	}{
		{RefuseNewline, `a\b`, "a\\b\n"},
		{RefuseNewline, ``, "\n"},
		{RefuseNewline, "a\nb", ""},
		{RefuseNewline, "a\r", ""},
		{EscapeNewline, "a\\b\r\n", `a\\b\r\n` + "\n"},
		{EscapeNewline, "plain", "plain\n"},
	} {
		got, err := Encoder{Format: Raw, Newline: c.mode}.Append([]byte("x"), &Event{Data: []byte(c.data)})
		var poison *PoisonError
		if c.want == "" && errors.As(err, &poison) && string(got) == "x" {
			continue
		}
		if err != nil || string(got) != "x"+c.want {
			t.Errorf("%v %q: got %q, %v", c.mode, c.data, got, err)
		}
	}
}

// anyText draws strings that are mostly text and sometimes not even UTF-8.
func anyText(t *rapid.T, label string) string {
	if rapid.Bool().Draw(t, label+" text") {
		return rapid.String().Draw(t, label)
	}
	return string(rapid.SliceOf(rapid.Byte()).Draw(t, label))
}

func anyEvent(t *rapid.T) *Event {
	e := &Event{
		Sequence: rapid.Uint64().Draw(t, "sequence"),
		Time:     time.Unix(0, rapid.Int64().Draw(t, "time")).UTC(),
		Subject:  anyText(t, "subject"),
	}
	for range rapid.IntRange(0, 20).Draw(t, "headers") {
		if e.Header == nil {
			e.Header = map[string][]string{}
		}
		values := []string{}
		for range rapid.IntRange(0, 3).Draw(t, "values") {
			values = append(values, anyText(t, "value"))
		}
		e.Header[anyText(t, "name")] = values
	}
	delete(e.Header, pinHeader)
	switch rapid.IntRange(0, 2).Draw(t, "payload") {
	case 0:
		e.Data = []byte(anyText(t, "data"))
	case 1: // JSON look-alikes
		e.Data = []byte(rapid.StringOfN(rapid.SampledFrom([]rune(`{}[]",:0123-eE.+\untrueflas/ `+"\n\r\t\xff")), -1, 40, -1).Draw(t, "data"))
	case 2:
		v, _ := json.Marshal(map[string]any{anyText(t, "key"): anyText(t, "string"), "n": rapid.Float64().Draw(t, "number")})
		e.Data = v
	}
	return e
}

func sameEvent(t interface{ Fatalf(string, ...any) }, got, want *Event) {
	same := got.Sequence == want.Sequence && got.Time.Equal(want.Time) && got.Subject == want.Subject &&
		bytes.Equal(got.Data, want.Data) && len(got.Header) == len(want.Header)
	for name, values := range want.Header {
		g, ok := got.Header[name]
		same = same && ok && len(g) == len(values)
		for i := range values {
			same = same && g[i] == values[i]
		}
	}
	if !same {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestLinesGiveBackTheVeryBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		mode := Payload(rapid.IntRange(0, 3).Draw(t, "mode"))
		line, err := Encoder{Payload: mode}.Append(nil, e)
		if err != nil {
			if mode == Auto || mode == Base64 {
				t.Fatalf("%v must carry everything: %v", mode, err)
			}
			return
		}
		if bytes.IndexByte(line, '\n') != len(line)-1 || bytes.IndexByte(line, '\r') >= 0 {
			t.Fatalf("not one line: %q", line)
		}
		var l Line
		if err := DecodeLine(line, &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sameEvent(t, &l.Event, e)
		again, err := Encoder{Payload: mode}.Append(nil, &l.Event)
		if err != nil || !bytes.Equal(again, line) {
			t.Fatalf("encoded again %q, %v\nwant %q", again, err, line)
		}
		if mode != JSON {
			standardReads(t, line, e)
		}
	})
}

// standardReads checks a line with a reader that knows nothing of this package.
func standardReads(t interface{ Fatalf(string, ...any) }, line []byte, e *Event) {
	var v struct {
		Seq       uint64
		TS        time.Time
		Subject   string
		Subject64 []byte
		Headers   map[string][]string
		Headers64 map[string][]string
		Data      json.RawMessage
		Text      string
		Base64    []byte
	}
	if err := json.Unmarshal(line, &v); err != nil {
		t.Fatalf("encoding/json: %q: %v", line, err)
	}
	if !utf8.Valid(line) {
		t.Fatalf("line is not UTF-8: %q", line)
	}
	got := &Event{Sequence: v.Seq, Time: v.TS, Subject: v.Subject, Header: map[string][]string{}, Data: v.Data}
	if v.Subject64 != nil {
		got.Subject = string(v.Subject64)
	}
	if v.Data == nil {
		got.Data = []byte(v.Text)
		if v.Base64 != nil {
			got.Data = v.Base64
		}
	}
	for name, values := range v.Headers {
		got.Header[name] = values
	}
	for name, values := range v.Headers64 {
		raw, err := base64.StdEncoding.DecodeString(name)
		if err != nil {
			t.Fatalf("headers64: %v", err)
		}
		got.Header[string(raw)] = []string{}
		for _, value := range values {
			b, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				t.Fatalf("headers64: %v", err)
			}
			got.Header[string(raw)] = append(got.Header[string(raw)], string(b))
		}
	}
	sameEvent(t, got, e)
}

func TestEmbeddableAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyEvent(t).Data
		if embeddable(p) && !json.Valid(p) {
			t.Fatalf("%q is no JSON", p)
		}
		line := len(p) > 0 && !bytes.ContainsAny(p, "\r\n") && utf8.Valid(p) && !isSpace(p[0]) && !isSpace(p[len(p)-1])
		if json.Valid(p) && line && !embeddable(p) {
			t.Fatalf("%q is JSON", p)
		}
	})
}

func TestDecodeLineRefuses(t *testing.T) {
	const front = `{"seq":1,"ts":"2026-11-22T10:00:00Z","subject":"s"`
	for _, good := range []string{
		front + `,"data":1}`,
		front + `,"new":{"a":[1]},"data":1}` + "\n",
		`{"new":null,"subject":"s","ts":"2026-11-22T10:00:00Z","seq":1,"text":"\u00e9\ud83d\ude00\/"}`,
	} {
		if err := DecodeLine([]byte(good), new(Line)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "{}", "[]", "{", "null", front + "}", front + `,"data":}`, front + `,"text":1}`, front + `,"text":"a","x":1}`,
		front + `,"base64":"A"}`, front + `,"base64":"QR=="}`, front + `,"seq":2,"data":1}`,
		front + `,"headers":{"a":["1"],"a":["2"]},"data":1}`, front + `,"headers":{"a":"1"},"data":1}`,
		front + `,"headers":{"a":[1]},"data":1}`, front + `,"headers":{"a":["1"},"data":1}`,
		front + ",\"text\":\"\xff\"}",
		`{"seq":01,"ts":"2026-11-22T10:00:00Z","subject":"s","data":1}`,
		`{"seq":-1,"ts":"2026-11-22T10:00:00Z","subject":"s","data":1}`,
		`{"seq":18446744073709551616,"ts":"2026-11-22T10:00:00Z","subject":"s","data":1}`,
		`{"seq":1,"ts":"2026-11-22T10:00:00+01:00","subject":"s","data":1}`,
		`{"seq":1,"ts":"yesterday Z","subject":"s","data":1}`,
		`{"seq":1,"subject":"s","data":1}`,
	} {
		if err := DecodeLine([]byte(bad), new(Line)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 1<<16)
	for name, e := range map[string]*Event{
		"json":    {Sequence: 1, Time: when, Subject: "a.b", Data: []byte(`{"a":[1,2,{"b":"c"}]}`)},
		"text":    {Sequence: 1, Time: when, Subject: "a.b", Data: []byte(`hello "world"`)},
		"binary":  {Sequence: 1, Time: when, Subject: "a\xff", Data: bytes.Repeat([]byte{0xff, 0}, 1000)},
		"headers": {Sequence: 1, Time: when, Subject: "a", Header: map[string][]string{"b": {"1"}, "a": {"2"}}, Data: []byte("1")},
	} {
		if n := testing.AllocsPerRun(100, func() { buf, _ = Encoder{}.Append(buf[:0], e) }); n != 0 {
			t.Errorf("%s: %v allocations per event", name, n)
		}
	}
}

func FuzzDecodeLine(f *testing.F) {
	f.Add([]byte(`{"seq":17,"ts":"2026-11-22T10:00:00.123456789Z","subject":"s","headers":{"a":["1"]},"data":{"id":1}}`))
	f.Add([]byte(`{"seq":1,"ts":"2026-11-22T10:00:00Z","subject64":"/w==","headers64":{"/w==":["/w=="]},"reason":"r","route":"","text":"\ud83d\ude00"}`))
	f.Add([]byte(`{"seq":1,"ts":"2026-11-22T10:00:00Z","subject":"s","base64":"AA=="}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		var l Line
		if DecodeLine(p, &l) != nil {
			return
		}
		line, err := Encoder{}.Append(nil, &l.Event)
		if err != nil {
			t.Fatal(err)
		}
		var again Line
		if err := DecodeLine(line, &again); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		delete(l.Header, pinHeader)
		sameEvent(t, &again.Event, &l.Event)
	})
}

func TestSeqs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		deltas := rapid.SliceOf(rapid.Uint64Range(1, 1<<40)).Draw(t, "deltas")
		seqs := []uint64{rapid.Uint64Range(1, 1<<60).Draw(t, "first")}
		for _, d := range deltas {
			seqs = append(seqs, seqs[len(seqs)-1]+d)
		}
		text := string(AppendSeqs(nil, seqs))
		var got []uint64
		err := DecodeSeqs(text, seqs[0], seqs[len(seqs)-1], len(seqs), func(s uint64) bool { got = append(got, s); return true })
		if err != nil || len(got) != len(seqs) {
			t.Fatalf("%v %v", got, err)
		}
		for i := range seqs {
			if got[i] != seqs[i] {
				t.Fatalf("got %v, want %v", got, seqs)
			}
		}
	})
	for _, c := range []struct {
		s           string
		first, last uint64
		count       int
	}{
		{"", 1, 3, 2}, {"", 2, 1, 1}, {"", 1, 1, 0}, {"AA==", 1, 1, 2}, {"AA==", 1, 2, 2}, {"Ag==", 1, 2, 2},
		{"Ag==", 1, 4, 2}, {"!", 1, 3, 2}, {"gA==", 1, 3, 2}, {"AgI=", 1, 3, 2}, {"Ag==", 1, 5, 3},
	} {
		if err := DecodeSeqs(c.s, c.first, c.last, c.count, func(uint64) bool { return true }); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}
