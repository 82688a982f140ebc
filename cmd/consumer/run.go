package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ossuary/internal/config"
	"ossuary/internal/service"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Archive until stopped",
		Long: `run archives the configured streams until SIGINT or SIGTERM. Then it stops
pulling, writes what it has, acknowledges, and ends, within intake.drain_timeout.
A second signal ends it at once, which loses nothing: what was not confirmed comes
again.

On SIGHUP it reads the configuration again. What cannot be taken changes nothing;
what can holds from then on, without a restart. Changed files of logins and
certificates for NATS are taken by themselves, and so are keys for OSS.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, log, err := a.load(c)
			if err != nil {
				return err
			}
			b := service.ReadBuild()
			log.Info().Str("version", b.Version).Str("commit", b.Commit).Str("go", b.Go).Msg("ossuary starts")
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			return service.Run(c.Context(), cfg, service.Deps{
				Log: log, Reload: hangup,
				Load: func() (*config.Config, error) {
					cfg, _, err := a.load(c)
					return cfg, err
				},
			})
		},
	}
}
