package service

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/ossemu"
)

// Every way to log in, against a server that wants just that.
func TestNATSLogins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	put(t, file("secret"), "s3cret\n")
	put(t, file("other"), "other\n")

	t.Run("user and password", func(t *testing.T) {
		t.Parallel()
		url := natsServer(t, "authorization: {user: bob, password: s3cret}").ClientURL()
		n := config.NATS{URLs: []string{url}}
		wantConnected(t, n, "cannot connect", "none of nats.creds, nats.nkey, nats.user and nats.token is set")
		n.User, n.Password = "bob", "s3cret"
		wantConnected(t, n)
		n.Password, n.PasswordFile = "", file("secret")
		wantConnected(t, n)
		n.PasswordFile = file("other")
		wantConnected(t, n, "refuses the credentials", "nats.user and nats.password")
		n.PasswordFile = file("nowhere")
		wantConnected(t, n, "nats.password_file", "name a file that can be read")
	})
	t.Run("token", func(t *testing.T) {
		t.Parallel()
		url := natsServer(t, "authorization: {token: s3cret}").ClientURL()
		n := config.NATS{URLs: []string{url}, Token: "s3cret"}
		wantConnected(t, n)
		n.Token, n.TokenFile = "", file("secret")
		wantConnected(t, n)
		n.TokenFile = file("other")
		wantConnected(t, n, "refuses the credentials", "nats.token")
	})
	t.Run("nkey", func(t *testing.T) {
		t.Parallel()
		kp, stranger := pair(t, nkeys.CreateUser), pair(t, nkeys.CreateUser)
		for name, kp := range map[string]nkeys.KeyPair{"user.nk": kp, "stranger.nk": stranger} {
			seed, err := kp.Seed()
			if err != nil {
				t.Fatal(err)
			}
			put(t, file(name), string(seed))
		}
		url := natsServer(t, "authorization: {users: [{nkey: "+public(t, kp)+"}]}").ClientURL()
		n := config.NATS{URLs: []string{url}, NKey: file("user.nk")}
		wantConnected(t, n)
		n.NKey = file("stranger.nk")
		wantConnected(t, n, "refuses the credentials", "nats.nkey")
		n.NKey = file("secret")
		wantConnected(t, n, "nats.nkey", "nk -gen user")
	})
	t.Run("creds", func(t *testing.T) {
		t.Parallel()
		o := startOperated(t)
		key := o.user(file("user.creds"))
		n := config.NATS{URLs: []string{o.srv.ClientURL()}, Creds: file("user.creds")}
		wantConnected(t, n)
		n.Creds = file("nobody.creds")
		wantConnected(t, n, "nats.creds", "readable .creds file")
		n.Creds = file("user.creds")
		o.revoke(key)
		wantConnected(t, n, "refuses the credentials", "nats.creds")
	})
	t.Run("several servers", func(t *testing.T) {
		t.Parallel()
		url := natsServer(t, "").ClientURL()
		wantConnected(t, config.NATS{URLs: []string{"nats://127.0.0.1:1", url}})
		wantConnected(t, config.NATS{URLs: []string{"nats://bob:s3cret@127.0.0.1:1"}}, "start the server, or correct nats.url", "***@127.0.0.1:1")
	})
}

func TestNATSTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, strangers := newAuthority(t, dir, "ca"), newAuthority(t, dir, "strangers")
	cert, key := ca.issue("server")
	ours, oursKey := ca.issue("ossuary")
	theirs, theirsKey := strangers.issue("stranger")
	block := func(more string) string {
		return fmt.Sprintf("tls: {cert_file: '%s', key_file: '%s', ca_file: '%s', timeout: 10%s}\n", cert, key, filepath.Join(dir, "ca.pem"), more)
	}
	trust := config.TLS{CA: filepath.Join(dir, "ca.pem")}

	t.Run("own authority", func(t *testing.T) {
		t.Parallel()
		url := natsServer(t, block("")).ClientURL()
		wantConnected(t, config.NATS{URLs: []string{url}, TLS: trust})
		wantConnected(t, config.NATS{URLs: []string{url}}, "nats.tls")
		wantConnected(t, config.NATS{URLs: []string{url}, TLS: config.TLS{CA: filepath.Join(dir, "strangers.pem")}}, "nats.tls")
		wantConnected(t, config.NATS{URLs: []string{url}, TLS: config.TLS{CA: filepath.Join(dir, "nowhere.pem")}}, "nats.tls", "nowhere.pem")
	})
	t.Run("own certificate", func(t *testing.T) {
		t.Parallel()
		url := natsServer(t, block(", verify: true")).ClientURL()
		n := config.NATS{URLs: []string{url}, TLS: trust}
		wantConnected(t, n, "nats.tls")
		n.TLS.Cert, n.TLS.Key = ours, oursKey
		wantConnected(t, n)
		n.TLS.Cert, n.TLS.Key = theirs, theirsKey
		wantConnected(t, n, "nats.tls")
	})
	t.Run("handshake first", func(t *testing.T) {
		t.Parallel()
		url := natsServer(t, block(", handshake_first: true")).ClientURL()
		n := config.NATS{URLs: []string{url}, TLS: trust}
		n.TLS.First = true
		wantConnected(t, n)
	})
	t.Run("none at the server", func(t *testing.T) {
		t.Parallel()
		wantConnected(t, config.NATS{URLs: []string{natsServer(t, "").ClientURL()}, TLS: trust}, "nats.tls")
	})
}

// A context gives what the settings do not say.
func TestNATSContext(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("SECRETS", dir)
	if err := os.MkdirAll(filepath.Join(dir, "nats", "context"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, "nats", "context", name+".json") }

	o := startOperated(t)
	o.user(filepath.Join(dir, "user.creds"))
	put(t, file("shop"), fmt.Sprintf(`{"description":"","url":%q,"creds":"$SECRETS/user.creds","inbox_prefix":"_INBOX_shop"}`, "nats://127.0.0.1:1,"+o.srv.ClientURL()))
	wantConnected(t, config.NATS{Context: "shop"})
	wantConnected(t, config.NATS{Context: file("shop")})
	wantConnected(t, config.NATS{Context: "shop", User: "bob", Password: "x"}, "refuses the credentials", "nats.user", "nats.context shop")
	wantConnected(t, config.NATS{Context: "shop", URLs: []string{"nats://127.0.0.1:1"}}, "127.0.0.1:1", "nats.context shop")
	wantConnected(t, config.NATS{Context: "shopp"}, "nats.context shopp", "nats context ls")
	put(t, file("nsc"), `{"nsc":"nsc://o/a/u"}`)
	wantConnected(t, config.NATS{Context: "nsc"}, "nsc", "set nats.creds")
	put(t, file("garbled"), `url: nats://x`)
	wantConnected(t, config.NATS{Context: "garbled"}, "garbled.json", "file of the nats CLI")

	n, err := withContext(config.NATS{Context: "shop"})
	if err != nil || len(n.URLs) != 2 || n.InboxPrefix != "_INBOX_shop" || n.Creds != filepath.Join(dir, "user.creds") {
		t.Errorf("%+v, %v", n, err)
	}
}

// The service archives what stands in another domain, and in another account.
func TestNATSPrefixes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, conf     string
		nats, producer config.NATS
		wrong          func(*config.NATS)
		words          []string
	}{
		{"inbox prefix", `authorization: {users: [
				{user: ossuary, password: p, permissions: {subscribe: ["_INBOX_shop.>"]}}, {user: producer, password: p}]}`,
			config.NATS{User: "ossuary", Password: "p", InboxPrefix: "_INBOX_shop."}, config.NATS{User: "producer", Password: "p"},
			func(n *config.NATS) { n.InboxPrefix = "" }, []string{"may not subscribe to _INBOX."}},
		{"domain", `jetstream: {store_dir: STORE, domain: hub}`,
			config.NATS{Domain: "hub"}, config.NATS{},
			func(n *config.NATS) { n.Domain = "hubb" }, []string{`nats.jetstream_domain "hubb"`, "correct it or leave it out"}},
		{"API prefix", `accounts: {
				HUB: {jetstream: enabled, users: [{user: producer, password: p}], exports: [
					{service: "$JS.API.>", response_type: stream}, {service: "$KV.>"}, {service: "$JS.ACK.>"}, {service: "$JS.FC.>"}, {stream: "_INBOX_shop.>"}]}
				SHOP: {users: [{user: ossuary, password: p}], imports: [
					{service: {account: HUB, subject: "$JS.API.>"}, to: "JS.hub.API.>"}, {service: {account: HUB, subject: "$KV.>"}, to: "JS.hub.API.$KV.>"},
					{service: {account: HUB, subject: "$JS.ACK.>"}}, {service: {account: HUB, subject: "$JS.FC.>"}}, {stream: {account: HUB, subject: "_INBOX_shop.>"}}]}}`,
			config.NATS{User: "ossuary", Password: "p", APIPrefix: "JS.hub.API", InboxPrefix: "_INBOX_shop"}, config.NATS{User: "producer", Password: "p"},
			func(n *config.NATS) { n.APIPrefix = "JS.hubb.API." }, []string{`nats.jetstream_api_prefix "JS.hubb.API."`, "import JS.hubb.API.>"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := natsServer(t, tc.conf).ClientURL()
			tc.nats.URLs, tc.producer.URLs = []string{url}, []string{url}
			cfg, _ := remote(t, ossemu.Options{}, nil)
			cfg.NATS = tc.producer
			nc, js, err := ConnectNATS(t.Context(), cfg, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			cfg.NATS = tc.nats
			for run := range 2 { // the second reads the ledger that is there
				s, stop := start(t, cfg)
				publish(t, js, 100)
				eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == uint64(100*run+100) })
				stop()
			}
			wantWhole(t, cfg, 200)
			tc.wrong(&tc.nats)
			wantConnected(t, tc.nats, tc.words...)
		})
	}
}

// countedLog counts the lines of a log that have the word.
type countedLog struct {
	word string
	n    atomic.Int64
}

func (c *countedLog) Write(line []byte) (int, error) {
	if strings.Contains(string(line), c.word) {
		c.n.Add(1)
	}
	return len(line), nil
}

// A connection whose login is refused again and again takes the new one when it is
// there at last.
func TestNATSConnectionOutlivesRefusals(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	cfg := config.Default()
	cfg.NATS = config.NATS{URLs: []string{o.srv.ClientURL()}, Creds: filepath.Join(t.TempDir(), "user.creds")}
	key := o.user(cfg.NATS.Creds)
	refused := &countedLog{word: "authorization violation"}
	nc, _, err := ConnectNATS(t.Context(), cfg, zerolog.New(refused))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	o.revoke(key)
	eventually(t, "it is refused three times", func() bool { return refused.n.Load() >= 3 || nc.IsClosed() })
	o.user(cfg.NATS.Creds)
	eventually(t, "it is let in", func() bool { return nc.IsConnected() || nc.IsClosed() })
	if nc.IsClosed() {
		t.Error("the connection was closed for good")
	}
}
