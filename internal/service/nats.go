package service

import (
	"context"
	"errors"
	"fmt"
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
	n := cfg.NATS
	opts, err := natsOptions(n, log)
	if err != nil {
		return nil, nil, err
	}
	nc, err := nats.Connect(strings.Join(n.URLs, ","), opts...)
	if err != nil {
		return nil, nil, explainConnect(n, err)
	}
	js, err := openJetStream(ctx, nc, n)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}

func natsOptions(n config.NATS, log zerolog.Logger) ([]nats.Option, error) {
	name := n.Name
	if name == "" {
		name = "ossuary"
	}
	opts := []nats.Option{
		nats.Name(name),
		nats.Timeout(natsTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(time.Second),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		nats.ReconnectBufSize(-1), // an ack or a ledger write must fail now rather than arrive some day
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn().Err(err).Msg("NATS connection lost")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("NATS connection back")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			e := log.Warn().Err(err)
			if sub != nil {
				e = e.Str("subject", sub.Subject)
			}
			e.Msg("NATS reports an error")
		}),
	}
	password, token, err := n.Secrets()
	if err != nil {
		return nil, err
	}
	switch {
	case n.Creds != "":
		opts = append(opts, nats.UserCredentials(n.Creds))
	case n.NKey != "":
		o, err := nats.NkeyOptionFromSeed(n.NKey)
		if err != nil {
			return nil, fmt.Errorf("nats.nkey %s: %w; name a file with an nkey seed (nk -gen user)", n.NKey, err)
		}
		opts = append(opts, o)
	case n.User != "":
		opts = append(opts, nats.UserInfo(n.User, password))
	case token != "":
		opts = append(opts, nats.Token(token))
	}
	if n.TLS.CA != "" {
		opts = append(opts, nats.RootCAs(n.TLS.CA))
	}
	if n.TLS.Cert != "" {
		opts = append(opts, nats.ClientCert(n.TLS.Cert, n.TLS.Key))
	}
	return opts, nil
}

// explainConnect says which setting keeps us from connecting, and what mends it.
func explainConnect(n config.NATS, err error) error {
	urls := strings.Join(redact(n.URLs), ", ")
	mend := "start the server, or correct nats.url"
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrNkeysNotSupported), errors.Is(err, nats.ErrNoUserCB):
		mend = "the server refuses the credentials: correct " + credentialSetting(n)
	case errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted), strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"):
		mend = "correct nats.tls (ca, cert, key) or use a tls:// URL in nats.url"
	case n.Creds != "" && strings.Contains(err.Error(), n.Creds):
		mend = "correct nats.creds: it must name a readable .creds file"
	}
	return fmt.Errorf("nats.url %s: cannot connect: %w; %s", urls, err, mend)
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
	if n.Domain != "" {
		js, err = jetstream.NewWithDomain(nc, n.Domain, opts...)
	}
	if err != nil {
		return nil, fmt.Errorf("nats.jetstream_domain %q: %w", n.Domain, err)
	}
	_, err = js.AccountInfo(ctx)
	switch {
	case err == nil:
		return js, nil
	case n.Domain != "" && (errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled)):
		return nil, fmt.Errorf("nats.jetstream_domain %q: nothing answers in this domain at %s: %w; correct it or leave it out", n.Domain, server, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("nats.url: the server at %s has no JetStream: %w; start it with -js or a jetstream block", server, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return nil, fmt.Errorf("nats.url: JetStream is not enabled for this account at %s: %w; enable it for the account, or correct %s", server, err, credentialSetting(n))
	}
	return nil, fmt.Errorf("nats.url: JetStream at %s does not answer: %w; grant the user publish on $JS.API.> and subscribe on _INBOX.>", server, err)
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
