// Package credentialstest plays the services that give out temporary keys: the
// metadata service of ECS instances and STS, and a gate in front of an emulator
// that knows which of these keys are good.
package credentialstest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ossuary/internal/ossemu"
)

// What the services expect of who asks them.
const (
	InstanceRole = "ossuary-instance"
	RoleARN      = "acs:ram::1234567890:role/ossuary"
	ProviderARN  = "acs:ram::1234567890:oidc-provider/ack"
	OIDCToken    = "token-of-the-pod"

	most = 1000 // keys given out
)

// Cloud gives out temporary keys. Each answer holds new ones.
type Cloud struct {
	STS string // host:port, to be reached by TLS

	mu       sync.Mutex
	base     map[string]bool // ids that may take the role on
	trusting bool            // all that were given out may, too
	issued   int
	lowest   int           // lower ones are revoked
	lifetime time.Duration // of keys that are given out
	away     bool
	log      []string
}

// Start runs the services until the test ends. They are reached through
// http.DefaultTransport, as the credentials library does it, so that tests which
// use them cannot run in parallel. Keys expire after a minute, which makes the
// library ask for new ones each time.
func Start(t testing.TB, base ...string) *Cloud {
	t.Helper()
	c := &Cloud{base: map[string]bool{}, lowest: 1, lifetime: time.Minute}
	for _, id := range base {
		c.base[id] = true
	}
	sts := httptest.NewTLSServer(http.HandlerFunc(c.sts))
	metadata := httptest.NewServer(http.HandlerFunc(c.metadata))
	c.STS = strings.TrimPrefix(sts.URL, "https://")
	at, err := url.Parse(metadata.URL)
	if err != nil {
		t.Fatal(err)
	}
	shared := http.DefaultTransport.(*http.Transport)
	before := shared.Clone()
	roots := x509.NewCertPool()
	roots.AddCert(sts.Certificate())
	shared.TLSClientConfig = &tls.Config{RootCAs: roots}
	shared.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Host == "100.100.100.200" {
			return at, nil
		}
		return nil, nil
	}
	t.Cleanup(func() {
		shared.TLSClientConfig, shared.Proxy = before.TLSClientConfig, before.Proxy
		sts.Close()
		metadata.Close()
	})
	return c
}

// Keys are all that will ever be given out, for an emulator.
func Keys() map[string]ossemu.Key {
	keys := map[string]ossemu.Key{}
	for n := 1; n <= most; n++ {
		id, secret, token := key(n)
		keys[id] = ossemu.Key{Secret: secret, Token: token}
	}
	return keys
}

func key(n int) (id, secret, token string) {
	return fmt.Sprintf("STS.%d", n), fmt.Sprintf("secret-%d", n), fmt.Sprintf("token-%d", n)
}

// Revoke makes all keys that were given out so far bad, at once.
func (c *Cloud) Revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lowest = c.issued + 1
}

// TrustAll lets keys that were given out take on the role.
func (c *Cloud) TrustAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trusting = true
}

// Skip counts n keys as given out: the test itself hands them on.
func (c *Cloud) Skip(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.issued += n
}

// Away makes the services fail, or come back.
func (c *Cloud) Away(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
}

// Issued is how many keys were given out.
func (c *Cloud) Issued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issued
}

// Asked is what the services were asked for.
func (c *Cloud) Asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log
}

func (c *Cloud) issue(what string) (answer string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, what)
	if c.away || c.issued == most {
		return "", false
	}
	c.issued++
	id, secret, token := key(c.issued)
	return fmt.Sprintf(`"AccessKeyId":%q,"AccessKeySecret":%q,"SecurityToken":%q,"Expiration":%q`,
		id, secret, token, time.Now().Add(c.lifetime).UTC().Format("2006-01-02T15:04:05Z")), true
}

func (c *Cloud) metadata(w http.ResponseWriter, r *http.Request) {
	const path, session = "/latest/meta-data/ram/security-credentials/", "session"
	switch {
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		fmt.Fprint(w, session)
	case r.Header.Get("X-Aliyun-Ecs-Metadata-Token") != session:
		http.Error(w, "no session", http.StatusForbidden)
	case r.URL.Path == path:
		fmt.Fprint(w, InstanceRole)
	case r.URL.Path == path+InstanceRole:
		if keys, ok := c.issue("instance role"); ok {
			fmt.Fprintf(w, `{"Code":"Success",%s}`, keys)
			return
		}
		http.Error(w, "away", http.StatusServiceUnavailable)
	default:
		http.NotFound(w, r)
	}
}

func (c *Cloud) sts(w http.ResponseWriter, r *http.Request) {
	refuse := func(code, message string) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"RequestId":"r","Code":%q,"Message":%q}`, code, message)
	}
	if err := r.ParseForm(); err != nil {
		refuse("BadRequest", err.Error())
		return
	}
	action := r.Form.Get("Action")
	c.mu.Lock()
	id := r.Form.Get("AccessKeyId")
	known := c.base[id] || c.trusting && strings.HasPrefix(id, "STS.") && r.Form.Get("SecurityToken") != ""
	c.mu.Unlock()
	switch {
	case r.Form.Get("RoleArn") != RoleARN:
		refuse("EntityNotExist.Role", "no such role")
		return
	case action == "AssumeRole" && (!known || r.Form.Get("Signature") == ""):
		refuse("InvalidAccessKeyId.NotFound", "no such key")
		return
	case action == "AssumeRoleWithOIDC" && (r.Form.Get("OIDCToken") != OIDCToken || r.Form.Get("OIDCProviderArn") != ProviderARN):
		refuse("AuthenticationFail.OIDCToken.Invalid", "bad token")
		return
	case action != "AssumeRole" && action != "AssumeRoleWithOIDC":
		refuse("InvalidAction", action)
		return
	}
	what := fmt.Sprintf("%s by %s as %s for %s", action, r.Form.Get("AccessKeyId"), r.Form.Get("RoleSessionName"), r.Form.Get("DurationSeconds"))
	keys, ok := c.issue(what)
	if !ok {
		http.Error(w, "away", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, `{"RequestId":"r","Credentials":{%s}}`, keys)
}

var signer = regexp.MustCompile(`Credential=STS\.(\d+)/`)

// Gate lets through to next what is signed with keys that are good now, and
// refuses temporary ones as the service does.
func (c *Cloud) Gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := signer.FindStringSubmatch(r.Header.Get("Authorization"))
		if m == nil {
			next.ServeHTTP(w, r)
			return
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _, token := key(n)
		c.mu.Lock()
		lowest := c.lowest
		c.mu.Unlock()
		var code string
		switch {
		case r.Header.Get("X-Oss-Security-Token") != token:
			code = "InvalidSecurityToken"
		case n < lowest:
			code = "SecurityTokenExpired"
		default:
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("X-Oss-Request-Id", "gate")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>The security token is not good.</Message><RequestId>gate</RequestId></Error>", code)
	})
}
