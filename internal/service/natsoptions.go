package service

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
)

// natsOptions are those of a connection. What files hold is read again for every
// new connection, so that it can be rotated; but for an nkey, whose public half the
// client takes once, and which a reload takes in use.
func natsOptions(n config.NATS, d *denials, log zerolog.Logger) ([]nats.Option, error) {
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
		// Without it the second refusal closes the connection for good, and when
		// credentials are rotated the old ones may end before the new ones are here.
		nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn().Err(err).Msg("NATS connection lost")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("NATS connection back")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if d.note(err, log) {
				return
			}
			e := log.Warn().Err(err)
			if sub != nil {
				e = e.Str("subject", sub.Subject)
			}
			e.Msg("NATS reports an error")
		}),
	}
	login, err := natsLogin(n, log)
	if err != nil {
		return nil, err
	}
	opts = append(opts, login...)
	if n.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(strings.TrimSuffix(n.InboxPrefix, ".")))
	}
	if n.TLS.First {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	// Both read their files once more at every handshake.
	if n.TLS.CA != "" {
		opts = append(opts, nats.RootCAs(n.TLS.CA))
	}
	if n.TLS.Cert != "" {
		opts = append(opts, nats.ClientCert(n.TLS.Cert, n.TLS.Key))
	}
	return opts, nil
}

// natsLogin says who we are.
func natsLogin(n config.NATS, log zerolog.Logger) ([]nats.Option, error) {
	if n.Password+n.PasswordFile+n.Token+n.TokenFile != "" {
		if _, _, err := n.Secrets(); err != nil {
			return nil, fmt.Errorf("nats.password_file, nats.token_file: %w; name a file that can be read", err)
		}
	}
	secrets := func() (password, token string) {
		password, token, err := n.Secrets()
		if err != nil {
			log.Warn().Err(err).Msg("cannot read what NATS wants to see")
		}
		return password, token
	}
	switch {
	case n.Creds != "":
		return []nats.Option{nats.UserCredentials(n.Creds)}, nil
	case n.NKey != "":
		o, err := nats.NkeyOptionFromSeed(n.NKey)
		if err != nil {
			return nil, fmt.Errorf("nats.nkey %s: %w; name a file with an nkey seed (nk -gen user)", n.NKey, err)
		}
		return []nats.Option{o}, nil
	case n.User != "":
		return []nats.Option{nats.UserInfoHandler(func() (string, string) {
			password, _ := secrets()
			return n.User, password
		})}, nil
	case n.Token+n.TokenFile != "":
		return []nats.Option{nats.TokenHandler(func() string {
			_, token := secrets()
			return token
		})}, nil
	}
	return nil, nil
}
