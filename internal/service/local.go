package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/embedded"
	"ossuary/internal/ossemu"
)

// Where the embedded store listens, and the key it takes, unless the
// configuration says something else. Both servers listen on loopback only.
const (
	localEndpoint = "http://127.0.0.1:9000"
	localKey      = "ossuary"
	storeDir      = "oss" // below embedded.data_dir, as the next
	lockName      = "lock"
)

// Local is a NATS server and an OSS-compatible store in this process.
type Local struct {
	nats *embedded.Server
	oss  *ossemu.Server
	lock *os.File
	cfg  *config.Config
}

// StartLocal starts both servers under embedded.data_dir, where nats.url and
// oss.endpoint say, and completes those settings in cfg with what holds.
func StartLocal(cfg *config.Config, log zerolog.Logger) (*Local, error) {
	return startLocal(cfg, log, false)
}

// StartLocalAnywhere is StartLocal on free ports.
func StartLocalAnywhere(cfg *config.Config, log zerolog.Logger) (*Local, error) {
	return startLocal(cfg, log, true)
}

func startLocal(cfg *config.Config, log zerolog.Logger, anywhere bool) (_ *Local, err error) {
	completeLocal(cfg)
	dir := cfg.Embedded.DataDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("embedded.data_dir: %w; name a directory that can be written", err)
	}
	l := &Local{cfg: cfg}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if l.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	natsAddr, ossAddr := "127.0.0.1:0", "127.0.0.1:0"
	if !anywhere {
		if natsAddr, err = loopback(cfg.NATS.URLs[0], "4222"); err != nil {
			return nil, fmt.Errorf("nats.url: %w", err)
		}
		if ossAddr, err = loopback(cfg.OSS.Endpoint, "80"); err != nil {
			return nil, fmt.Errorf("oss.endpoint: %w", err)
		}
	}
	if err := l.startStore(ossAddr, log); err != nil {
		return nil, err
	}
	host, portText, _ := net.SplitHostPort(natsAddr)
	port, _ := strconv.Atoi(portText) // loopback has checked it
	if port == 0 {
		port = embedded.RandomPort
	}
	l.nats, err = embedded.Start(embedded.Options{
		StoreDir: filepath.Join(dir, "nats"), Host: host, Port: port, Log: log.With().Str("server", "nats").Logger(),
	})
	if err != nil {
		return nil, fmt.Errorf("%w; stop it, or connect to it with a configuration file (--config) that says embedded.enabled: false", err)
	}
	cfg.NATS.URLs = []string{l.nats.ClientURL()}
	if err := l.announce(); err != nil {
		return nil, err
	}
	log.Info().Str("nats", cfg.NATS.URLs[0]).Str("oss", cfg.OSS.Endpoint).Str("dir", dir).Msg("embedded servers started")
	return l, nil
}

func (l *Local) startStore(addr string, log zerolog.Logger) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("oss.endpoint %s: the embedded store cannot listen: %w; stop what runs there, or set another port", l.cfg.OSS.Endpoint, err)
	}
	id, secret, token, err := l.cfg.OSS.Keys()
	if err == nil {
		l.oss, err = ossemu.New(ossemu.Options{
			Dir: l.storeDir(), Credentials: map[string]string{id: secret}, SecurityToken: token,
			Log: log.With().Str("server", "oss").Logger(),
		})
	}
	if err != nil {
		listener.Close()
		return fmt.Errorf("embedded store in %s: %w", l.storeDir(), err)
	}
	l.cfg.OSS.Endpoint = "http://" + listener.Addr().String()
	go func() {
		if err := l.oss.Serve(listener); err != nil {
			log.Error().Err(err).Msg("the embedded store has stopped serving")
		}
	}()
	return nil
}

func (l *Local) storeDir() string { return filepath.Join(l.cfg.Embedded.DataDir, storeDir) }

// Path is the file in which an object of the archive's bucket lies.
func (l *Local) Path(key string) string {
	return filepath.Join(l.storeDir(), l.cfg.OSS.Bucket, filepath.FromSlash(key))
}

// Close stops the servers, NATS first: nothing archives without it.
func (l *Local) Close() {
	if l.nats != nil {
		l.nats.Shutdown()
	}
	if l.oss != nil {
		_ = l.oss.Close() // nothing was confirmed that is not written
	}
	if l.lock != nil {
		_ = l.lock.Close()
	}
}

// completeLocal fills in what the embedded servers need and the file left out.
func completeLocal(cfg *config.Config) {
	if cfg.OSS.Endpoint == "" {
		cfg.OSS.Endpoint = localEndpoint
	}
	if cfg.OSS.AccessKeyID == "" && cfg.OSS.AccessKeyIDFile == "" {
		cfg.OSS.AccessKeyID, cfg.OSS.AccessKeySecret = localKey, localKey
	}
	if cfg.OSS.Region == "" {
		cfg.OSS.Region = "cn-hangzhou"
	}
}

// loopback takes host and port out of a URL that an embedded server may listen
// at: it has no protection that would let it face a network.
func loopback(raw, port string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("%w; use a URL", err)
	}
	host := u.Hostname()
	if u.Port() != "" {
		port = u.Port()
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%s: port %q is no number", raw, port)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr := net.JoinHostPort(host, port)
	if !ossemu.IsLoopback(addr) {
		return "", fmt.Errorf("%s: embedded servers listen on loopback only; use 127.0.0.1, or set embedded.enabled: false to use servers elsewhere", raw)
	}
	return addr, nil
}

// endpoints stand in the lock file while its owner runs, for the commands that
// look at the archive meanwhile.
type endpoints struct {
	NATS string `json:"nats"`
	OSS  string `json:"oss"`
}

func (l *Local) announce() error {
	b, err := json.Marshal(endpoints{l.cfg.NATS.URLs[0], l.cfg.OSS.Endpoint})
	if err == nil {
		if err = l.lock.Truncate(0); err == nil {
			_, err = l.lock.WriteAt(append(b, '\n'), 0)
		}
	}
	if err != nil {
		return fmt.Errorf("embedded.data_dir: writing where the servers listen: %w", err)
	}
	return nil
}

// joinLocal points cfg to the servers of the process that uses the directory.
func joinLocal(cfg *config.Config) {
	var e endpoints
	b, err := os.ReadFile(filepath.Join(cfg.Embedded.DataDir, lockName))
	if err != nil || json.Unmarshal(b, &e) != nil {
		return // it is just starting: what the configuration says is the best guess
	}
	cfg.NATS.URLs, cfg.OSS.Endpoint = []string{e.NATS}, e.OSS
}

// errInUse: another process has the data directory.
var errInUse = errors.New("another Ossuary uses it")

func lockDir(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("embedded.data_dir: %w; name a directory that can be written", err)
	}
	if err := lockFile(f); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("embedded.data_dir %s: %w; stop it, or choose another directory", strings.TrimSuffix(dir, "/"), errInUse)
	}
	return f, nil
}
