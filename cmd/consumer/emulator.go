package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ossuary/internal/config"
	"ossuary/internal/ossemu"
)

// The keys of an emulator that nobody gave others.
const emulatorKey, emulatorSecret = "ossuary", "ossuary"

func (a *app) emulatorCommand() *cobra.Command {
	var (
		listen, dir, key, secret, region string
		buckets                          []string
		memory, sync, admin, logRequests bool
	)
	c := &cobra.Command{
		Use:   "emulator",
		Short: "Run an OSS-compatible server for development and tests",
		Long: `emulator serves the part of the OSS protocol that Ossuary uses. Objects lie
as plain files under DIR/BUCKET/KEY. It has no TLS and is no server for the open
net.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := a.logger(config.Log{Level: a.logLevel, Format: a.logFormat})
			if err != nil {
				return err
			}
			if memory {
				if c.Flags().Changed("dir") {
					return errors.New("--memory and --dir exclude each other; leave one out")
				}
				dir = ""
			}
			if key == "" || secret == "" {
				return errors.New("--access-key and --secret-key must not be empty")
			}
			if !ossemu.IsLoopback(listen) && key == emulatorKey && secret == emulatorSecret {
				log.Warn().Str("listen", listen).Msg("reachable from other machines with the default keys; set --access-key and --secret-key")
			}
			o := ossemu.Options{
				Dir: dir, Fsync: sync, Admin: admin, Region: region, Buckets: buckets,
				Credentials: map[string]string{key: secret}, Log: log,
			}
			if !logRequests && a.logLevel == "" {
				o.Log = log.Level(zerolog.WarnLevel)
			}
			if logRequests {
				o.Log = log.Level(zerolog.DebugLevel)
			}
			return serveEmulator(c.Context(), listen, o, log)
		},
	}
	flags := c.Flags()
	flags.StringVar(&listen, "listen", "127.0.0.1:9000", "`ADDRESS` to listen on")
	flags.StringVar(&dir, "dir", "./ossuary-data/oss", "`DIR` for the objects")
	flags.StringArrayVar(&buckets, "bucket", []string{"ossuary"}, "`BUCKET` to create, may be repeated")
	flags.StringVar(&key, "access-key", emulatorKey, "access key `ID`")
	flags.StringVar(&secret, "secret-key", emulatorSecret, "access key `SECRET`")
	flags.StringVar(&region, "region", "", "refuse V4 signatures for other `REGION`s; default: take any")
	flags.BoolVar(&memory, "memory", false, "keep the objects in memory only")
	flags.BoolVar(&sync, "sync", false, "force each change to the disk before confirming it")
	flags.BoolVar(&admin, "admin", false, "serve fault injection and counters under /_ossemu/")
	flags.BoolVar(&logRequests, "log-requests", false, "log each request")
	_ = c.MarkFlagDirname("dir")
	return c
}

func serveEmulator(ctx context.Context, listen string, o ossemu.Options, log zerolog.Logger) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w; choose a free address", listen, err)
	}
	srv, err := ossemu.New(o)
	if err != nil {
		l.Close()
		return fmt.Errorf("--dir %s: %w", o.Dir, err)
	}
	log.Info().Str("endpoint", "http://"+l.Addr().String()).Str("dir", o.Dir).Strs("buckets", o.Buckets).Msg("emulator serves")
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Serve(l) })
	g.Go(func() error {
		<-gctx.Done()
		return srv.Close()
	})
	return g.Wait()
}
