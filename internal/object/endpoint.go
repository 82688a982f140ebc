package object

import (
	"net/url"
	"regexp"
	"strings"
)

var standardEndpoints = []*regexp.Regexp{
	regexp.MustCompile(`^(?:vpc100-)?oss-([a-z]+-[a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com$`),
	regexp.MustCompile(`^([a-z]+-[a-z0-9-]+?)(?:-internal)?\.oss\.aliyuncs\.com$`), // dual stack
}

// Region returns the region in the name of a standard endpoint, "" if it says
// none: accelerating endpoints lead to any region, and of a domain of one's own,
// an address or an emulator nobody knows. The endpoint may have a scheme and a port.
func Region(endpoint string) string {
	host := Host(endpoint)
	if Accelerates(endpoint) {
		return ""
	}
	for _, re := range standardEndpoints {
		if m := re.FindStringSubmatch(host); m != nil {
			return m[1]
		}
	}
	return ""
}

// Accelerates reports whether the endpoint is one of transfer acceleration.
func Accelerates(endpoint string) bool {
	return strings.HasPrefix(Host(endpoint), "oss-accelerate")
}

// Host is the host name in an endpoint, "" if there is none.
func Host(endpoint string) string {
	if !strings.Contains(endpoint, "://") {
		endpoint = "//" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}
