package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ossuary/internal/config"
)

// healthTimeout is below the interval at which container runtimes ask.
const healthTimeout = 3 * time.Second

func (a *app) healthCommand() *cobra.Command {
	var emulator string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the running service whether it is ready (for container health checks)",
		Long: `health asks /readyz at http.listen of the configuration. It exits 0 if the
service is ready, 1 if it is not and says why, 2 if nothing answers.

With --emulator it asks a store instead. Any answer but a 5xx will do: a store
refuses a request without a signature, and lives.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if emulator != "" {
				return a.askStore(c.Context(), emulator)
			}
			return a.ask(c.Context(), "/readyz")
		},
	}
	cmd.Flags().StringVar(&emulator, "emulator", "", "ask the store at this `URL` instead of the service")
	return cmd
}

func (a *app) askStore(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("--emulator %q: %w; use http://host:port", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("--emulator %s: no store answers: %w; start it with `consumer emulator`", url, err)
	}
	defer resp.Body.Close()
	if _, err := fmt.Fprintln(a.stdout, resp.Status); err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return errFound
	}
	return nil
}

// ask prints what the running service answers.
func (a *app) ask(ctx context.Context, path string) error {
	cfg, err := config.Load(a.configFile)
	if err != nil {
		return err
	}
	url, err := serviceURL(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("http.listen %q: %w", cfg.HTTP.Listen, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("http.listen %s: no service answers: %w; start it with `consumer run`", cfg.HTTP.Listen, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("http.listen %s: %w", cfg.HTTP.Listen, err)
	}
	if _, err := fmt.Fprintln(a.stdout, strings.TrimSpace(string(body))); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errFound
	}
	return nil
}

// serviceURL is where the running service can be asked.
func serviceURL(cfg *config.Config) (string, error) {
	if cfg.HTTP.Listen == "" {
		return "", errors.New("http.listen is empty, so the service cannot be asked; set it, to 127.0.0.1:8080 for example")
	}
	host, port, err := net.SplitHostPort(cfg.HTTP.Listen)
	if err != nil {
		return "", fmt.Errorf("http.listen %q: %w; use host:port", cfg.HTTP.Listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, port), nil
}
