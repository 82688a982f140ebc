package config

import (
	"fmt"
	"regexp"
	"strings"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME} and ${NAME:-default} in a value; $${ stands for ${.
// A default is used where the variable is missing or empty. It runs on parsed
// values, so that what a variable holds is never read as YAML.
func expand(s string, getenv func(string) (string, bool)) (out, what, mend string) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), "", ""
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		end := strings.Index(s[i:], "}")
		if end < 0 {
			return "", "${ is not closed", "write ${NAME}, or $${ for the two signs themselves"
		}
		name, fallback, hasFallback := strings.Cut(s[i+2:i+end], ":-")
		s = s[i+end+1:]
		if !envName.MatchString(name) {
			return "", fmt.Sprintf("${%s} does not name an environment variable", name), "write ${NAME} or ${NAME:-default}"
		}
		v, ok := getenv(name)
		switch {
		case hasFallback && v == "":
			v = fallback
		case !ok:
			return "", fmt.Sprintf("the environment variable %s is not set", name), fmt.Sprintf("set it, or write ${%s:-default}", name)
		}
		b.WriteString(v)
	}
}
