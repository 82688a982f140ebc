package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ossuary/internal/config"
	"ossuary/internal/ossemu"
)

// The keys of an emulator that nobody gave others.
const emulatorKey, emulatorSecret = "ossuary", "ossuary"

// emulatorFlags are what the command line says of an emulator.
type emulatorFlags struct {
	listen, key, secret, maxObject, requestLog string
	memory, logRequests                        bool
	keys, cnames, variants, faults             []string
	ossemu.Options
}

func (a *app) emulatorCommand() *cobra.Command {
	f := &emulatorFlags{}
	c := &cobra.Command{
		Use:   "emulator",
		Short: "Run an OSS-compatible server for development and tests",
		Long: `emulator answers as Alibaba Cloud OSS does, so that clients made for OSS work
with it unchanged: its SDKs, command line tools, and programs that use them. It
is strictest about appendable objects: positions, headers, limits, versions,
retention and errors are as the vendor's documents and his SDKs' own tests have
them. Objects lie as plain files under DIR/BUCKET/KEY. It has no TLS and is no
server for the open net.

Point a client at http://127.0.0.1:9000 with the keys below. IP addresses and
names that are not --domain take the bucket as the path's first part; under
localhost and --domain it may be a subdomain.

With --admin, faults are planted and taken away while it runs:

  curl -d '{"op":"append","action":"error","status":503,"probability":0.1}' \
       http://127.0.0.1:9000/_ossemu/faults
  curl -X DELETE http://127.0.0.1:9000/_ossemu/faults

A rule has op, key (a pattern with *), nth, count, probability, when (before or
after the request is carried out) and an action: error, cut, reset, close,
throttle, late, delay or headers. See the README.`,
		Example: `  consumer emulator
  consumer emulator --memory --bucket test --access-key ak --secret-key sk
  consumer emulator --dir ./oss --sync --admin --request-log requests.jsonl
  consumer emulator --memory --refuse-v1 --region cn-hangzhou --domain oss.test`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := a.logger(config.Log{Level: a.logLevel, Format: a.logFormat})
			if err != nil {
				return err
			}
			if f.memory && c.Flags().Changed("dir") {
				return errors.New("--memory and --dir exclude each other; leave one out")
			}
			if err := f.complete(); err != nil {
				return err
			}
			if !ossemu.IsLoopback(f.listen) && f.key == emulatorKey && f.secret == emulatorSecret {
				log.Warn().Str("listen", f.listen).Msg("reachable from other machines with the default keys; set --access-key and --secret-key")
			}
			f.Log = log
			if !f.logRequests && a.logLevel == "" {
				f.Log = log.Level(zerolog.WarnLevel)
			}
			if f.logRequests {
				f.Log = log.Level(zerolog.DebugLevel)
			}
			if f.requestLog != "" {
				w, err := openRequestLog(f.requestLog, c.OutOrStdout())
				if err != nil {
					return err
				}
				defer w.Close()
				f.RequestLog = w
			}
			return serveEmulator(c.Context(), f, log)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:9000", "`ADDRESS` to listen on")
	flags.StringVar(&f.Dir, "dir", "./ossuary-data/oss", "`DIR` for the objects")
	flags.StringArrayVar(&f.Buckets, "bucket", []string{"ossuary"}, "`BUCKET` to create, may be repeated")
	flags.StringVar(&f.key, "access-key", emulatorKey, "access key `ID`")
	flags.StringVar(&f.secret, "secret-key", emulatorSecret, "access key `SECRET`")
	flags.StringArrayVar(&f.keys, "key", nil, "`ID:SECRET[:TOKEN]` of a further access key, may be repeated; with a token it is a temporary one (STS)")
	flags.StringVar(&f.Region, "region", "", "refuse V4 signatures for other `REGION`s; default: take any")
	flags.StringVar(&f.Domain, "domain", "", "host `NAME` under which buckets are subdomains")
	flags.StringArrayVar(&f.cnames, "cname", nil, "`HOST=BUCKET`: a host name that is a bucket's own, may be repeated")
	flags.BoolVar(&f.RefusePathStyle, "refuse-path-style", false, "refuse buckets in the path, as the service does")
	flags.BoolVar(&f.RefuseV1, "refuse-v1", false, "refuse V1 signatures, as the service does for new accounts and buckets")
	flags.StringArrayVar(&f.variants, "variant", nil, "`NAME` of a behaviour where documents disagree, may be repeated: "+strings.Join(ossemu.VariantNames(), ", "))
	flags.StringVar(&f.maxObject, "max-object", "5GB", "`SIZE` past which appends are refused")
	flags.BoolVar(&f.memory, "memory", false, "keep the objects in memory only")
	flags.BoolVar(&f.Fsync, "sync", false, "force each change to the disk before confirming it")
	flags.BoolVar(&f.Admin, "admin", false, "serve fault injection and counters under /_ossemu/")
	flags.StringArrayVar(&f.faults, "fault", nil, "`RULE` as JSON to begin with, may be repeated")
	flags.Uint64Var(&f.Seed, "seed", 0, "`NUMBER` that faults by probability follow from")
	flags.BoolVar(&f.logRequests, "log-requests", false, "log each request")
	flags.StringVar(&f.requestLog, "request-log", "", "`FILE` for one line of JSON per request; - is the standard output")
	_ = c.MarkFlagDirname("dir")
	return c
}

// complete makes the options of what was said in words.
func (f *emulatorFlags) complete() error {
	if f.memory {
		f.Dir = ""
	}
	if f.key == "" || f.secret == "" {
		return errors.New("--access-key and --secret-key must not be empty")
	}
	f.Credentials = map[string]string{f.key: f.secret}
	f.Keys = map[string]ossemu.Key{}
	for _, text := range f.keys {
		p := strings.SplitN(text, ":", 3)
		if len(p) < 2 || p[0] == "" || p[1] == "" {
			return errors.New("--key takes ID:SECRET or ID:SECRET:TOKEN") // not what it was: it may hold a secret
		}
		f.Keys[p[0]] = ossemu.Key{Secret: p[1], Token: strings.Join(p[2:], "")}
	}
	f.CNames = map[string]string{}
	for _, text := range f.cnames {
		host, bucket, ok := strings.Cut(text, "=")
		if !ok || host == "" || bucket == "" {
			return fmt.Errorf("--cname %s: say HOST=BUCKET", text)
		}
		f.CNames[strings.ToLower(host)] = bucket
	}
	var err error
	if f.Variants, err = ossemu.ParseVariants(f.variants); err != nil {
		return fmt.Errorf("--variant: %w", err)
	}
	n, err := humanize.ParseBytes(f.maxObject)
	if err != nil || n == 0 || n > 1<<60 {
		return fmt.Errorf("--max-object %s: say a size such as 5GB or 64MiB", f.maxObject)
	}
	f.MaxObject = int64(n)
	return nil
}

// openRequestLog opens the file for requests; what it has, stays.
func openRequestLog(name string, stdout io.Writer) (io.WriteCloser, error) {
	if name == "-" {
		return struct {
			io.Writer
			io.Closer
		}{stdout, io.NopCloser(nil)}, nil
	}
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600) // targets may hold signatures
	if err != nil {
		return nil, fmt.Errorf("--request-log: %w", err)
	}
	return w, nil
}

func serveEmulator(ctx context.Context, f *emulatorFlags, log zerolog.Logger) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w; choose a free address", f.listen, err)
	}
	srv, err := ossemu.New(f.Options)
	if err != nil {
		l.Close()
		if f.memory {
			return err
		}
		return fmt.Errorf("--dir %s: %w", f.Dir, err)
	}
	for _, text := range f.faults {
		var rule ossemu.Rule
		err := json.Unmarshal([]byte(text), &rule)
		if err == nil {
			_, err = srv.AddFault(rule)
		}
		if err != nil {
			l.Close()
			return errors.Join(fmt.Errorf("--fault %s: %w", text, err), srv.Close())
		}
	}
	log.Info().Str("endpoint", "http://"+l.Addr().String()).Str("dir", f.Dir).Strs("buckets", f.Buckets).Msg("emulator serves")
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Serve(l) })
	g.Go(func() error {
		<-gctx.Done()
		return srv.Close()
	})
	return g.Wait()
}
