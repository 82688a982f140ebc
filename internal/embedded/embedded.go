// Package embedded runs a NATS server with JetStream inside the process, for the
// set-up without a configuration file and for tests.
//
// It is one server, not a cluster, and no more durable than its disk. Nothing of
// the archive's safety rests on it.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// readyTimeout bounds the start. Recovering a large store takes most of it.
const readyTimeout = 60 * time.Second

// RandomPort as Options.Port takes any free port.
const RandomPort = server.RANDOM_PORT

// Options says where and how the server runs.
type Options struct {
	StoreDir      string // JetStream's files; must not be shared with another server
	Host          string // "" means 127.0.0.1
	Port          int    // 0 means 4222, RandomPort any free one
	ServerName    string // "" means ossuary
	InProcessOnly bool   // open no port; Connect still works
	SyncAlways    bool   // sync every write to disk before it is acknowledged
	Log           zerolog.Logger
}

// Server is a running server.
type Server struct {
	srv  *server.Server
	stop sync.Once
}

// Start starts a server and returns when it takes connections.
func Start(o Options) (*Server, error) {
	if o.StoreDir == "" {
		return nil, errors.New("embedded NATS: no store directory")
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Port == 0 {
		o.Port = server.DEFAULT_PORT
	}
	if o.ServerName == "" {
		o.ServerName = "ossuary"
	}
	if !o.InProcessOnly && o.Port > 0 {
		if err := portFree(o.Host, o.Port); err != nil {
			return nil, err
		}
	}
	srv, err := server.NewServer(&server.Options{
		ServerName: o.ServerName,
		Host:       o.Host,
		Port:       o.Port,
		DontListen: o.InProcessOnly,
		JetStream:  true,
		StoreDir:   o.StoreDir,
		SyncAlways: o.SyncAlways,
		NoSigs:     true,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	// The server calls Fatalf for whatever keeps it from starting and then just
	// does not become ready; the logger is the only way to learn why.
	fatal := make(chan string, 1)
	srv.SetLogger(&logger{log: o.Log, fatal: fatal}, false, false)
	s := &Server{srv: srv}
	ready := make(chan bool, 1)
	go func() {
		srv.Start()
		ready <- srv.ReadyForConnections(readyTimeout)
	}()
	select {
	case why := <-fatal:
		s.Shutdown()
		return nil, fmt.Errorf("embedded NATS did not start: %s", why)
	case ok := <-ready:
		if ok {
			return s, nil
		}
	}
	s.Shutdown()
	select {
	case why := <-fatal:
		return nil, fmt.Errorf("embedded NATS did not start: %s", why)
	default:
		return nil, fmt.Errorf("embedded NATS was not ready after %s", readyTimeout)
	}
}

// portFree says in plain words what the server would only log.
func portFree(host string, port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("embedded NATS cannot listen on %s port %d, perhaps another NATS server or Ossuary runs there: %w", host, port, err)
	}
	return l.Close()
}

// ClientURL is where clients outside the process connect; "" with InProcessOnly.
func (s *Server) ClientURL() string {
	if s.srv.Addr() == nil {
		return ""
	}
	return s.srv.ClientURL()
}

// Connect opens a connection inside the process, over no network.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append([]nats.Option{nats.InProcessServer(s.srv)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the embedded NATS: %w", err)
	}
	return nc, nil
}

// Shutdown stops the server and returns when its files are closed. Further calls
// wait likewise.
func (s *Server) Shutdown() {
	s.stop.Do(s.srv.Shutdown)
	s.srv.WaitForShutdown()
}

// logger hands the server's words to zerolog. Its notices are a start-up banner
// and are worth no more than debug here.
type logger struct {
	log   zerolog.Logger
	fatal chan string // takes the first reason, further ones follow from it
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn().Msgf(format, v...) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error().Msgf(format, v...) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Debug().Msgf(format, v...) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }

// Fatalf does not end the process: Start reports it.
func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
