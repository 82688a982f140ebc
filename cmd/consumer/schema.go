package main

import (
	"github.com/spf13/cobra"

	"ossuary/internal/config"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file, for editors",
		Long: `schema prints a JSON Schema (draft 7) of the configuration file: all settings with
what they mean, their defaults and what they take. An editor that knows it completes
and checks as one types. For those that use the YAML language server:

    consumer schema > ossuary.schema.json

and as the first line of the configuration

    # yaml-language-server: $schema=ossuary.schema.json

What is between settings no schema can say; 'consumer check' finds that too.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(config.Schema())
			return err
		},
	}
}
