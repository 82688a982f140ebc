package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"ossuary/internal/service"
)

func (a *app) checkCommand() *cobra.Command {
	var asJSON, show bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Try out configuration, NATS, streams and OSS without archiving",
		Long: `check connects to everything that run needs, looks at the streams' settings and
routes some of their messages without archiving them. At OSS it looks at the clock,
the region, and what is set at the bucket: versioning, retention, lifecycle rules
that would hurt. It then creates, appends to, asks for and reads back one object
for each kind that the settings make, in _ossuary/check/ under the archive's
prefix, where no other command looks.

What it may not look at is "unknown" and keeps nothing from running. It exits 0 if
nothing does, 2 otherwise; warnings do not count.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, log, err := a.load(c)
			if err != nil {
				return err
			}
			if show {
				_, err := a.stdout.Write(cfg.Print())
				return err
			}
			found := service.Check(c.Context(), cfg, log)
			if err := c.Context().Err(); err != nil {
				return err
			}
			if asJSON {
				err = a.printJSON(found)
			} else {
				for _, f := range found {
					if _, err = fmt.Fprintf(a.stdout, "%-8s %s: %s\n", f.Level, f.What, f); err != nil {
						break
					}
				}
			}
			if err != nil {
				return err
			}
			return a.checked(found)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&show, "print", false, "print the effective configuration, secrets hidden, and check nothing else")
	return c
}

// checked repeats the first problem, which is what a person sees last.
func (a *app) checked(found []service.Checked) error {
	for _, f := range found {
		if f.Level == service.CheckProblem {
			return fmt.Errorf("%s: %s", f.What, f)
		}
	}
	return nil
}
