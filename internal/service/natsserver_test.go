package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
)

// configured is a nats-server with a configuration file.
type configured struct {
	*server.Server
	t   *testing.T
	dir string
}

// natsServer runs a nats-server with this configuration, on a free port and with
// JetStream; STORE stands for its directory.
func natsServer(t *testing.T, conf string) *configured {
	t.Helper()
	c := &configured{t: t, dir: t.TempDir()}
	o, err := server.ProcessConfigFile(c.write(conf))
	if err != nil {
		t.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	srv, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	c.Server = srv
	return c
}

func (c *configured) write(conf string) string {
	c.t.Helper()
	if !strings.Contains(conf, "STORE") {
		conf = "jetstream: {store_dir: STORE}\n" + conf
	}
	file := filepath.Join(c.dir, "nats.conf")
	put(c.t, file, "listen: 127.0.0.1:-1\n"+strings.ReplaceAll(conf, "STORE", "'"+c.dir+"'"))
	return file
}

// change gives the server another configuration while it runs.
func (c *configured) change(conf string) {
	c.t.Helper()
	c.write(conf)
	if err := c.Reload(); err != nil {
		c.t.Fatal(err)
	}
}

// put writes a file as those do it who rotate secrets: it is there whole or not at
// all.
func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority writes its certificate to <name>.pem in dir.
func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir}
	a.cert, a.key = a.sign(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue writes <name>.pem and <name>.key, and returns their paths.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	a.sign(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
}

func (a *authority) sign(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	// The key first: a certificate that stands there has its key.
	put(a.t, filepath.Join(a.dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	put(a.t, filepath.Join(a.dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}

// operated is a server in operator mode with one account, as `nsc` sets it up.
type operated struct {
	t       *testing.T
	srv     *configured
	account nkeys.KeyPair
	claims  *jwt.AccountClaims
	op      nkeys.KeyPair
}

func startOperated(t *testing.T) *operated {
	t.Helper()
	o := &operated{t: t, op: pair(t, nkeys.CreateOperator), account: pair(t, nkeys.CreateAccount)}
	sys := pair(t, nkeys.CreateAccount)
	opClaims := jwt.NewOperatorClaims(public(t, o.op))
	opClaims.SystemAccount = public(t, sys)
	o.claims = jwt.NewAccountClaims(public(t, o.account))
	o.claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	o.srv = natsServer(t, "operator: "+encode(t, opClaims, o.op)+
		"\nresolver: MEMORY\nresolver_preload: {\n"+
		public(t, sys)+": "+encode(t, jwt.NewAccountClaims(public(t, sys)), o.op)+"\n"+
		public(t, o.account)+": "+encode(t, o.claims, o.op)+"\n}\n")
	return o
}

func pair(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	kp, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return kp
}

func public(t *testing.T, kp nkeys.KeyPair) string {
	t.Helper()
	s, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encode(t *testing.T, c jwt.Claims, by nkeys.KeyPair) string {
	t.Helper()
	s, err := c.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// user makes a user and writes his creds to file.
func (o *operated) user(file string) (key string) {
	o.t.Helper()
	kp := pair(o.t, nkeys.CreateUser)
	seed, err := kp.Seed()
	if err != nil {
		o.t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(encode(o.t, jwt.NewUserClaims(public(o.t, kp)), o.account), seed)
	if err != nil {
		o.t.Fatal(err)
	}
	put(o.t, file, string(creds))
	return public(o.t, kp)
}

// revoke ends a user: he is cut off and not let in again.
func (o *operated) revoke(key string) {
	o.t.Helper()
	o.claims.Revoke(key)
	acc, err := o.srv.LookupAccount(public(o.t, o.account))
	if err != nil {
		o.t.Fatal(err)
	}
	o.srv.UpdateAccountClaims(acc, o.claims)
}

// connected tries the settings: it connects and asks JetStream for something.
func connected(t *testing.T, n config.NATS) error {
	t.Helper()
	cfg := config.Default()
	cfg.NATS = n
	nc, js, err := ConnectNATS(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "tried"})
	if err == nil {
		_, err = kv.PutString(ctx, "a", "b")
	}
	return err
}

// wantConnected says of each setting whether it leads to the server, and with what
// words it is refused.
func wantConnected(t *testing.T, n config.NATS, refused ...string) {
	t.Helper()
	err := connected(t, n)
	switch {
	case len(refused) == 0 && err != nil:
		t.Error(err)
	case len(refused) > 0 && err == nil:
		t.Error("it is let in")
	}
	for _, word := range refused {
		if err != nil && !strings.Contains(err.Error(), word) {
			t.Errorf("%q is missing in: %v", word, err)
		}
	}
}
