package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ossuary/internal/config"
)

// natsContext is the file of a context of the nats CLI, as its package natscontext
// writes it. That package is not used for its dependencies; ten fields are all
// that there is to it.
type natsContext struct {
	URL         string `json:"url"`
	Token       string `json:"token"`
	User        string `json:"user"`
	Password    string `json:"password"`
	Creds       string `json:"creds"`
	NKey        string `json:"nkey"`
	Cert        string `json:"cert"`
	Key         string `json:"key"`
	CA          string `json:"ca"`
	Domain      string `json:"jetstream_domain"`
	APIPrefix   string `json:"jetstream_api_prefix"`
	InboxPrefix string `json:"inbox_prefix"`
	TLSFirst    bool   `json:"tls_first"`

	// What Ossuary does not take from a context.
	NSC       string `json:"nsc"`
	UserJWT   string `json:"user_jwt"`
	UserSeed  string `json:"user_seed"`
	Socks     string `json:"socks_proxy"`
	CertStore string `json:"windows_cert_store"`
}

// withContext completes the settings by those of the context that they name: a
// group of settings (servers, login, TLS, JetStream, inbox) that says nothing is
// taken from there.
func withContext(n config.NATS) (config.NATS, error) {
	if n.Context == "" {
		return n, nil
	}
	path, err := contextFile(n.Context)
	if err != nil {
		return n, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return n, fmt.Errorf("nats.context %s: there is no %s; see `nats context ls`, or write the path of the file", n.Context, path)
	}
	if err != nil {
		return n, fmt.Errorf("nats.context %s: %w", n.Context, err)
	}
	var c natsContext
	if err := json.Unmarshal(data, &c); err != nil {
		return n, fmt.Errorf("nats.context %s: %s: %w; it must be a file of the nats CLI", n.Context, path, err)
	}
	for _, x := range []struct{ name, value, mend string }{
		{"nsc", c.NSC, "export the user with `nsc generate creds` and set nats.creds"},
		{"user_jwt", c.UserJWT + c.UserSeed, "put both into a .creds file and set nats.creds"},
		{"socks_proxy", c.Socks, "use a context without it"},
		{"windows_cert_store", c.CertStore, "set nats.tls.cert and nats.tls.key"},
	} {
		if x.value != "" {
			return n, fmt.Errorf("nats.context %s: %s says %s, which is not supported; %s", n.Context, path, x.name, x.mend)
		}
	}
	return c.complete(n), nil
}

func (c natsContext) complete(n config.NATS) config.NATS {
	if len(n.URLs) == 0 {
		for u := range strings.SplitSeq(c.URL, ",") {
			if u = strings.TrimSpace(u); u != "" {
				n.URLs = append(n.URLs, u)
			}
		}
	}
	if len(n.URLs) == 0 {
		n.URLs = []string{"nats://127.0.0.1:4222"} // as the nats CLI has it
	}
	if n.Creds+n.NKey+n.User+n.Token+n.TokenFile == "" {
		switch { // in the order of the nats CLI
		case c.User != "":
			n.User, n.Password = c.User, c.Password
		case c.Creds != "":
			n.Creds = expandPath(c.Creds)
		case c.NKey != "":
			n.NKey = expandPath(c.NKey)
		default:
			n.Token = c.Token
		}
	}
	if n.TLS == (config.TLS{}) {
		n.TLS = config.TLS{CA: expandPath(c.CA), Cert: expandPath(c.Cert), Key: expandPath(c.Key), First: c.TLSFirst}
	}
	if n.Domain+n.APIPrefix == "" {
		if n.Domain = c.Domain; n.Domain == "" {
			n.APIPrefix = c.APIPrefix
		}
	}
	if n.InboxPrefix == "" {
		n.InboxPrefix = c.InboxPrefix
	}
	return n
}

// contextFile is where the nats CLI keeps the context, unless name is a path.
func contextFile(name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) || strings.HasSuffix(name, ".json") {
		return expandPath(name), nil
	}
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("nats.context %s: %w; write the path of the context's file instead of its name", name, err)
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "nats", "context", name+".json"), nil
}

// expandPath does with ~ and $NAME what the nats CLI does.
func expandPath(p string) string {
	p = os.ExpandEnv(p)
	if rest, ok := strings.CutPrefix(p, "~"); ok && (rest == "" || rest[0] == filepath.Separator) {
		if home, err := os.UserHomeDir(); err == nil {
			return home + rest
		}
	}
	return p
}
