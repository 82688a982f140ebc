package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Load reads the file at path; with path "" it returns Default. An *Error lists
// all that is wrong with the content.
func Load(path string) (*Config, error) {
	if path == "" {
		return Default(), nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w; name a file that can be read with --config", err)
	}
	return Parse(path, data, os.LookupEnv)
}

// Parse reads a configuration; name is used in errors, getenv for ${NAME}.
// It reads no file and not the environment.
func Parse(name string, data []byte, getenv func(string) (string, bool)) (*Config, error) {
	c := base()
	d := &decoder{file: name, getenv: getenv, anchors: map[string]ast.Node{}, at: map[string]place{}}
	d.decode(data, c)
	if len(d.problems) == 0 {
		// What follows from half-read values would only confuse.
		c.complete()
		v := &validator{decoder: d, config: c}
		v.all()
		c.Warnings = v.warnings
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, &Error{d.problems}
	}
	return c, nil
}

// Validate runs the checks of Parse on a Config that was put together or
// changed in the program, by flags for instance.
func (c *Config) Validate() error {
	d := &decoder{at: map[string]place{}}
	v := &validator{decoder: d, config: c}
	v.all()
	c.Warnings = v.warnings
	if len(d.problems) > 0 {
		return &Error{d.problems}
	}
	return nil
}

// Keys returns the OSS keys of the file, read anew from their files if they have
// some, so that a rotation needs no restart. All are empty if none are configured.
func (o OSS) Keys() (id, secret, token string, err error) {
	var errs [3]error
	id, errs[0] = fromFile(o.AccessKeyID, o.AccessKeyIDFile)
	secret, errs[1] = fromFile(o.AccessKeySecret, o.AccessKeySecretFile)
	token, errs[2] = fromFile(o.SecurityToken, o.SecurityTokenFile)
	return id, secret, token, errors.Join(errs[:]...)
}

// Secrets returns password and token, read anew from their files if they have some.
func (n NATS) Secrets() (password, token string, err error) {
	var errs [2]error
	password, errs[0] = fromFile(n.Password, n.PasswordFile)
	token, errs[1] = fromFile(n.Token, n.TokenFile)
	return password, token, errors.Join(errs[:]...)
}

// fromFile is the value, or the content of the file without the space around it
// (editors and kubectl leave a newline).
func fromFile(value, path string) (string, error) {
	if path == "" {
		return value, nil
	}
	p, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading a secret: %w", err)
	}
	s := strings.TrimSpace(string(p))
	if s == "" {
		return "", fmt.Errorf("reading a secret: %s is empty", path)
	}
	return s, nil
}
