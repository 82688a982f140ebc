package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
)

const (
	// How long one NATS server may take to answer when connecting. With several
	// URLs each has this long.
	natsTimeout = 5 * time.Second
	// How long a JetStream request may take: the client's own default is 5 s,
	// which a cluster electing a leader can pass.
	jetStreamTimeout = 10 * time.Second
)

// The oldest server that knows what the intake needs of consumers.
const minMajor, minMinor = 2, 10

// ConnectNATS connects as the configuration says, and keeps on reconnecting once
// it has been connected.
func ConnectNATS(ctx context.Context, cfg *config.Config, log zerolog.Logger) (*nats.Conn, jetstream.JetStream, error) {
	return connectNATS(ctx, cfg, new(denials), log)
}

// connectNATS notes in d what the server does not let us do.
func connectNATS(ctx context.Context, cfg *config.Config, d *denials, log zerolog.Logger) (*nats.Conn, jetstream.JetStream, error) {
	n, err := withContext(cfg.NATS)
	if err != nil {
		return nil, nil, err
	}
	opts, err := natsOptions(n, d, log)
	if err != nil {
		return nil, nil, err
	}
	nc, err := nats.Connect(strings.Join(n.URLs, ","), opts...)
	if err != nil {
		return nil, nil, explainConnect(n, tellingError(n, err, opts))
	}
	// A request that the server does not let through is just not answered.
	first, cancel := context.WithCancel(ctx)
	defer cancel()
	d.tell(cancel)
	js, err := openJetStream(first, nc, n)
	d.tell(nil)
	if err != nil {
		nc.Close()
		if seen := d.recent(); len(seen) > 0 {
			err = fmt.Errorf("nats.url %s: %s", nc.ConnectedUrlRedacted(), seen[0])
		}
		return nil, nil, err
	}
	return nc, js, nil
}

// tellingError asks each of several servers for itself: of all their errors the client
// keeps the last, and a refused login tells more than a server that is down.
func tellingError(n config.NATS, err error, opts []nats.Option) error {
	if len(n.URLs) == 1 || !errors.Is(err, nats.ErrNoServers) {
		return err
	}
	for _, u := range n.URLs {
		nc, one := nats.Connect(u, opts...)
		if one == nil {
			nc.Close()
		} else if !errors.Is(one, nats.ErrNoServers) {
			return one
		}
	}
	return err
}

// explainConnect says which setting keeps us from connecting, and what mends it.
func explainConnect(n config.NATS, err error) error {
	urls := strings.Join(redact(n.URLs), ", ")
	mend := "start the server, or correct nats.url"
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrNkeysNotSupported), errors.Is(err, nats.ErrNoUserCB):
		mend = "the server refuses the credentials: correct " + credentialSetting(n)
	case errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, nats.ErrTLS),
		strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"), strings.Contains(err.Error(), "root certificate"), fileOf(err) != "" && fileOf(err) != n.Creds:
		mend = "correct nats.tls (ca, cert, key, first) or use a tls:// URL in nats.url"
	case n.Creds != "" && strings.Contains(err.Error(), n.Creds):
		mend = "correct nats.creds: it must name a readable .creds file"
	}
	if n.Context != "" {
		mend += " (what is not set in the file comes from nats.context " + n.Context + ")"
	}
	return fmt.Errorf("nats.url %s: cannot connect: %w; %s", urls, err, mend)
}

// fileOf is the file that could not be read, if it was that.
func fileOf(err error) string {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Path
	}
	return ""
}

// credentialSetting names the setting that identified us to the server.
func credentialSetting(n config.NATS) string {
	switch {
	case n.Creds != "":
		return "nats.creds"
	case n.NKey != "":
		return "nats.nkey"
	case n.User != "":
		return "nats.user and nats.password"
	case n.Token != "" || n.TokenFile != "":
		return "nats.token"
	}
	return "the file: none of nats.creds, nats.nkey, nats.user and nats.token is set"
}

// redact hides what a URL holds before its @.
func redact(urls []string) []string {
	out := make([]string, len(urls))
	for i, u := range urls {
		scheme, rest, ok := strings.Cut(u, "://")
		if !ok {
			scheme, rest = "", u
		} else {
			scheme += "://"
		}
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			rest = "***" + rest[at:]
		}
		out[i] = scheme + rest
	}
	return out
}

// openJetStream checks that the server can do what the intake needs.
func openJetStream(ctx context.Context, nc *nats.Conn, n config.NATS) (jetstream.JetStream, error) {
	server := nc.ConnectedUrlRedacted()
	if v := nc.ConnectedServerVersion(); !newEnough(v) {
		return nil, fmt.Errorf("nats.url: the server at %s is version %s; Ossuary needs nats-server %d.%d or newer: upgrade it", server, v, minMajor, minMinor)
	}
	opts := []jetstream.JetStreamOpt{jetstream.WithDefaultTimeout(jetStreamTimeout)}
	js, err := jetstream.New(nc, opts...)
	switch {
	case n.Domain != "":
		js, err = jetstream.NewWithDomain(nc, n.Domain, opts...)
	case n.APIPrefix != "":
		js, err = jetstream.NewWithAPIPrefix(nc, n.APIPrefix, opts...)
	}
	if err != nil {
		return nil, fmt.Errorf("nats.jetstream_domain %q, nats.jetstream_api_prefix %q: %w", n.Domain, n.APIPrefix, err)
	}
	_, err = js.AccountInfo(ctx)
	switch {
	case err == nil:
		return js, nil
	case n.Domain != "" && (errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled)):
		return nil, fmt.Errorf("nats.jetstream_domain %q: nothing answers in this domain at %s: %w; correct it or leave it out", n.Domain, server, err)
	case n.APIPrefix != "" && (errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled)):
		return nil, fmt.Errorf("nats.jetstream_api_prefix %q: nothing answers to it at %s: %w; correct it, or import %s.> from the account that has the stream", n.APIPrefix, server, err, strings.TrimSuffix(n.APIPrefix, "."))
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("nats.url: the server at %s has no JetStream: %w; start it with -js or a jetstream block", server, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return nil, fmt.Errorf("nats.url: JetStream is not enabled for this account at %s: %w; enable it for the account, or correct %s", server, err, credentialSetting(n))
	}
	return nil, fmt.Errorf("nats.url: JetStream at %s does not answer: %w; docs/NATS.md lists what the user must be allowed to do", server, err)
}

// newEnough reports whether a server version like 2.10.27 or 2.12.0-RC.1 will
// do. A version that cannot be read is taken for good: features decide later.
func newEnough(v string) bool {
	parts := strings.SplitN(v, ".", 3)
	if len(parts) < 2 {
		return true
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return true
	}
	return major > minMajor || major == minMajor && minor >= minMinor
}
