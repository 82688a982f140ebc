package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// documents writes what the program says of itself, and what lies beside it:
// completions, man pages, licences.
func (r *release) documents(ctx context.Context) error {
	for shell, file := range map[string]string{"bash": "consumer.bash", "zsh": "_consumer", "fish": "consumer.fish", "powershell": "consumer.ps1"} {
		text, err := r.print(ctx, "completion", shell)
		if err != nil {
			return err
		}
		if err := r.put("completions/"+file, text); err != nil {
			return err
		}
	}
	var tree command
	if err := r.ask(ctx, &tree, "commands"); err != nil {
		return err
	}
	pages, err := r.pages(tree)
	if err != nil {
		return fmt.Errorf("man pages: %w", err)
	}
	for name, text := range pages {
		if err := r.put("man/"+name, text); err != nil {
			return err
		}
		packed, err := pack(text)
		if err != nil {
			return err
		}
		if err := r.put("man-gz/"+name+".gz", packed); err != nil {
			return err
		}
	}
	licences, err := r.licences(ctx)
	if err != nil {
		return fmt.Errorf("licences: %w", err)
	}
	return r.put("THIRD-PARTY-LICENSES", licences)
}

// put writes a file of the stage, with the same mode whatever the umask.
func (r *release) put(name string, text []byte) error {
	file := filepath.Join(r.stage, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	return os.Chmod(file, 0o644)
}

// pack compresses without a name or time.
func pack(text []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// command and flag are what `consumer commands` prints.
type command struct {
	Use, Short, Long, Example string
	Flags                     []flagOf
	Global                    []flagOf `json:"persistent"`
	Commands                  []command
}

type flagOf struct {
	Name, Shorthand, Usage, Type, Default string
	NoValue                               string `json:"no_value"`
}

// pages are the man pages, by file.
func (r *release) pages(tree command) (map[string][]byte, error) {
	pages := map[string][]byte{}
	when := r.build.Time
	var render func(c *cobra.Command) error
	render = func(c *cobra.Command) error {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		var b bytes.Buffer
		err := doc.GenMan(c, &doc.GenManHeader{
			Title: strings.ToUpper(name), Section: "1", Date: &when, Source: "Ossuary " + r.build.Version, Manual: "Ossuary",
		}, &b)
		if err != nil {
			return err
		}
		pages[name+".1"] = b.Bytes()
		for _, sub := range c.Commands() {
			if !sub.IsAvailableCommand() {
				continue
			}
			if err := render(sub); err != nil {
				return err
			}
		}
		return nil
	}
	return pages, render(tree.cobra())
}

// cobra makes the command again that this describes.
func (d command) cobra() *cobra.Command {
	c := &cobra.Command{Use: d.Use, Short: d.Short, Long: d.Long, Example: d.Example, DisableAutoGenTag: true,
		Run: func(*cobra.Command, []string) {}}
	c.CompletionOptions.DisableDefaultCmd = true
	c.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true}) // or each command with others below it gets one, with a page
	for _, f := range d.Flags {
		c.Flags().AddFlag(f.pflag())
	}
	for _, f := range d.Global {
		c.PersistentFlags().AddFlag(f.pflag())
	}
	for _, sub := range d.Commands {
		c.AddCommand(sub.cobra())
	}
	return c
}

func (f flagOf) pflag() *pflag.Flag {
	return &pflag.Flag{Name: f.Name, Shorthand: f.Shorthand, Usage: f.Usage, DefValue: f.Default, NoOptDefVal: f.NoValue, Value: typed(f.Type)}
}

// typed is a value of which only the type is told.
type typed string

func (typed) String() string   { return "" }
func (typed) Set(string) error { return nil }
func (t typed) Type() string   { return string(t) }
