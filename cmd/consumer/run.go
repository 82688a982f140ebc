package main

import (
	"github.com/spf13/cobra"

	"ossuary/internal/service"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Archive until stopped",
		Long: `run archives the configured streams until SIGINT or SIGTERM. Then it stops
pulling, writes what it has, acknowledges, and ends, within intake.drain_timeout.
A second signal ends it at once, which loses nothing: what was not confirmed comes
again.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, log, err := a.load(c)
			if err != nil {
				return err
			}
			b := service.ReadBuild()
			log.Info().Str("version", b.Version).Str("commit", b.Commit).Str("go", b.Go).Msg("ossuary starts")
			return service.Run(c.Context(), cfg, service.Deps{Log: log})
		},
	}
}
