package event

import "fmt"

// The names below stand in frame headers, configuration files and layouts; they
// never change their meaning.
var (
	formatNames  = []string{Envelope: "envelope", Raw: "raw"}
	codecNames   = []string{Gzip: "gzip", Zstd: "zstd", Plain: "plain"}
	payloadNames = []string{Auto: "auto", JSON: "json", Text: "text", Base64: "base64"}
	newlineNames = []string{RefuseNewline: "refuse", EscapeNewline: "escape"}
)

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", v)
}

func marshalName[T ~uint8](what string, names []string, v T) ([]byte, error) {
	if int(v) >= len(names) {
		return nil, fmt.Errorf("unknown %s %d", what, v)
	}
	return []byte(names[v]), nil
}

func parseName[T ~uint8](what string, names []string, s string) (T, error) {
	for i, n := range names {
		if n == s {
			return T(i), nil
		}
	}
	return 0, fmt.Errorf("unknown %s %q, want one of %q", what, s, names)
}

func unmarshalName[T ~uint8](what string, names []string, p []byte, v *T) error {
	x, err := parseName[T](what, names, string(p))
	if err == nil {
		*v = x
	}
	return err
}

func (f Format) String() string { return nameOf(formatNames, f) }

// MarshalText implements encoding.TextMarshaler.
func (f Format) MarshalText() ([]byte, error) { return marshalName("format", formatNames, f) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Format) UnmarshalText(p []byte) error { return unmarshalName("format", formatNames, p, f) }

// ParseFormat is the inverse of Format.String.
func ParseFormat(s string) (Format, error) { return parseName[Format]("format", formatNames, s) }

func (c Codec) String() string { return nameOf(codecNames, c) }

// MarshalText implements encoding.TextMarshaler.
func (c Codec) MarshalText() ([]byte, error) { return marshalName("codec", codecNames, c) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Codec) UnmarshalText(p []byte) error { return unmarshalName("codec", codecNames, p, c) }

// ParseCodec is the inverse of Codec.String.
func ParseCodec(s string) (Codec, error) { return parseName[Codec]("codec", codecNames, s) }

func (p Payload) String() string { return nameOf(payloadNames, p) }

// MarshalText implements encoding.TextMarshaler.
func (p Payload) MarshalText() ([]byte, error) { return marshalName("payload mode", payloadNames, p) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Payload) UnmarshalText(b []byte) error {
	return unmarshalName("payload mode", payloadNames, b, p)
}

// ParsePayload is the inverse of Payload.String.
func ParsePayload(s string) (Payload, error) {
	return parseName[Payload]("payload mode", payloadNames, s)
}

func (n Newline) String() string { return nameOf(newlineNames, n) }

// MarshalText implements encoding.TextMarshaler.
func (n Newline) MarshalText() ([]byte, error) { return marshalName("newline mode", newlineNames, n) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Newline) UnmarshalText(p []byte) error {
	return unmarshalName("newline mode", newlineNames, p, n)
}

// ParseNewline is the inverse of Newline.String.
func ParseNewline(s string) (Newline, error) {
	return parseName[Newline]("newline mode", newlineNames, s)
}
