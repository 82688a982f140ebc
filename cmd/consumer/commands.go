package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// command is a command as its help shows it, for the man pages: they are made by a
// module of its own (tools/release), whose libraries stay out of this program.
type command struct {
	Use      string    `json:"use"`
	Short    string    `json:"short"`
	Long     string    `json:"long,omitempty"`
	Example  string    `json:"example,omitempty"`
	Flags    []flag    `json:"flags,omitempty"`      // of this command only
	Global   []flag    `json:"persistent,omitempty"` // of the commands below it as well
	Commands []command `json:"commands,omitempty"`
}

type flag struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Usage     string `json:"usage"`
	Type      string `json:"type"`
	Default   string `json:"default,omitempty"`
	NoValue   string `json:"no_value,omitempty"` // what it means without a value; "" if it must have one
}

func (a *app) commandsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "commands",
		Short:  "Print all commands and flags as JSON",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.printJSON(describe(c.Root()))
		},
	}
}

func describe(c *cobra.Command) command {
	d := command{Use: c.Use, Short: c.Short, Long: c.Long, Example: c.Example,
		Flags: describeFlags(c.LocalNonPersistentFlags()), Global: describeFlags(c.PersistentFlags())}
	for _, sub := range c.Commands() {
		// What cobra adds by itself explains itself.
		if sub.IsAvailableCommand() && sub.Name() != "completion" && sub.Name() != "help" {
			d.Commands = append(d.Commands, describe(sub))
		}
	}
	return d
}

func describeFlags(set *pflag.FlagSet) (all []flag) {
	set.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			all = append(all, flag{f.Name, f.Shorthand, f.Usage, f.Value.Type(), f.DefValue, f.NoOptDefVal})
		}
	})
	return all
}
