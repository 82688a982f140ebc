package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ossuary/internal/config"
)

// app is what the commands share: where they print, and the global flags.
type app struct {
	stdout, stderr io.Writer

	configFile string
	logLevel   string
	logFormat  string
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "consumer",
		Short: "Archive NATS JetStream streams into OSS appendable objects, once and provably",
		Long: `consumer archives NATS JetStream streams into Alibaba Cloud OSS appendable
objects: every event once, in stream order, provable afterwards.

Without --config it runs on embedded defaults: a NATS server with JetStream on
127.0.0.1:4222 and an OSS-compatible store under ./ossuary-data.

Exit status: 0 good, 1 found something wrong, 2 used wrongly or could not run.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return c.Help()
		},
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.configFile, "config", "c", "", "configuration `FILE` (YAML); without it, embedded defaults")
	flags.StringVar(&a.logLevel, "log-level", "", "least `LEVEL` logged: debug, info, warn or error (default: log.level)")
	flags.StringVar(&a.logFormat, "log-format", "", "log as json or console; auto: console on a terminal (default: log.format)")
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())
	})
	root.AddCommand(
		a.runCommand(), a.demoCommand(), a.checkCommand(), a.schemaCommand(), a.routeCommand(), a.planCommand(),
		a.verifyCommand(), a.catCommand(), a.replayCommand(), a.deadLettersCommand(), a.ledgerCommand(),
		a.emulatorCommand(), a.healthCommand(), a.statusCommand(), a.versionCommand(),
	)
	root.AddCommand(a.commandsCommand())
	return root
}

// load reads the configuration and makes the logger that it asks for.
func (a *app) load(c *cobra.Command) (*config.Config, zerolog.Logger, error) {
	cfg, err := config.Load(a.configFile)
	if err != nil {
		return nil, zerolog.Nop(), err
	}
	if a.logLevel != "" {
		cfg.Log.Level = a.logLevel
	}
	if a.logFormat != "" {
		cfg.Log.Format = a.logFormat
	}
	log, err := a.logger(cfg.Log)
	return cfg, log, err
}

// logger logs to standard error, which keeps standard output for data.
func (a *app) logger(l config.Log) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(strings.ToLower(l.Level))
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("log.level (--log-level) %q: use debug, info, warn or error", l.Level)
	}
	if level == zerolog.NoLevel {
		level = zerolog.InfoLevel
	}
	console := isTerminal(a.stderr)
	switch l.Format {
	case "", "auto":
	case "console":
		console = true
	case "json":
		console = false
	default:
		return zerolog.Nop(), fmt.Errorf("log.format (--log-format) %q: use auto, json or console", l.Format)
	}
	w := a.stderr
	if console {
		w = zerolog.ConsoleWriter{Out: a.stderr, TimeFormat: time.TimeOnly, NoColor: !isTerminal(a.stderr) || os.Getenv("NO_COLOR") != ""}
	}
	return zerolog.New(zerolog.SyncWriter(w)).Level(level).With().Timestamp().Logger(), nil
}

// isTerminal reports whether a person watches w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// printJSON writes v for a program to read.
func (a *app) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	_, err = fmt.Fprintf(a.stdout, "%s\n", b)
	return err
}

// table starts a table for a person to read.
func (a *app) table(columns ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(a.stdout)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header, t.Style().Format.Footer = text.FormatDefault, text.FormatDefault
	t.Style().Options.SeparateRows = false
	t.Style().Options.DrawBorder = false
	t.AppendHeader(table.Row(columns))
	return t
}

// right aligns numbers so that they can be compared down a column.
func right(columns ...int) []table.ColumnConfig {
	var out []table.ColumnConfig
	for _, n := range columns {
		out = append(out, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight, AlignFooter: text.AlignRight})
	}
	return out
}

// progress shows long work to a person, and nothing to a program. A total of -1
// means that the end is not known.
func (a *app) progress(total int64, what string, bytes bool) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSetVisibility(isTerminal(a.stderr)),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(bytes),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}
