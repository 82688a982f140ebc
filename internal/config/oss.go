package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"ossuary/internal/object"
)

// OSS's rule for bucket names.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)

var roleARN = regexp.MustCompile(`^acs:ram::[0-9]+:role/[^\s]+$`)

func (v *validator) oss() {
	o := v.config.OSS
	if o.Endpoint == "" && !v.config.Embedded.Enabled {
		v.bad("oss.endpoint", "there is no endpoint", "set it, as in https://oss-cn-hangzhou-internal.aliyuncs.com")
	}
	if o.Endpoint != "" {
		v.endpoint(o)
	}
	if strings.HasPrefix(o.Region, "oss-") {
		v.bad("oss.region", fmt.Sprintf("%q begins with oss-", o.Region), fmt.Sprintf("write %s", strings.TrimPrefix(o.Region, "oss-")))
	}
	switch {
	case o.Bucket == "":
		v.bad("oss.bucket", "there is no bucket", "name it")
	case !bucketName.MatchString(o.Bucket):
		v.bad("oss.bucket", fmt.Sprintf("%q is no name of a bucket", o.Bucket), "use 3 to 63 lower-case letters, digits and -, not - at an end")
	}
	v.keys(o)
	v.credentials(o.Credentials)
	v.oneOf("oss.path_style", o.PathStyle, "auto", "true", "false")
	v.oneOf("oss.auth_version", o.AuthVersion, "v4", "v1")
	v.proxy(o.Proxy)
	v.lasts("oss.timeout", o.Timeout, 100*time.Millisecond)
	v.lasts("oss.connect_timeout", o.ConnectTimeout, 10*time.Millisecond)
	if l := o.TrafficLimit; l != 0 && (l < object.MinTrafficLimit || l > object.MaxTrafficLimit) {
		v.bad("oss.traffic_limit", fmt.Sprintf("%d bits a second", l),
			fmt.Sprintf("use %d (30 KiB/s) to %d (100 MiB/s), or 0 for no limit", object.MinTrafficLimit, object.MaxTrafficLimit))
	}
}

func (v *validator) endpoint(o OSS) {
	e := o.Endpoint
	if !strings.Contains(e, "://") {
		e = "https://" + e
	}
	u, err := url.Parse(e)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		v.bad("oss.endpoint", "this is no endpoint", "write a host, without the bucket and a path, as in https://oss-cn-hangzhou.aliyuncs.com")
		return
	}
	host := object.Host(e)
	ours := strings.HasSuffix(host, ".aliyuncs.com") // Alibaba Cloud's own, as opposed to a domain of one's own or an emulator
	switch {
	case ours && strings.HasPrefix(host, "s3."):
		v.bad("oss.endpoint", "this endpoint speaks the protocol of S3, which has no appends", "write "+strings.TrimPrefix(host, "s3."))
		return
	case ours && o.Bucket != "" && strings.HasPrefix(host, o.Bucket+"."):
		v.bad("oss.endpoint", "the endpoint begins with the bucket", "write "+strings.TrimPrefix(host, o.Bucket+"."))
		return
	case o.Region != "" || o.AuthVersion != "v4":
	case object.Accelerates(e):
		v.bad("oss.region", "an accelerating endpoint leads to buckets of any region, and signatures of version 4 need the bucket's", "set it, as in cn-hangzhou, without oss-")
	default:
		v.bad("oss.region", "the region does not follow from the endpoint, and signatures of version 4 need it", "set it, as in cn-hangzhou, without oss-")
	}
	if region := object.Region(e); region != "" && o.Region != "" && strings.TrimPrefix(o.Region, "oss-") != region {
		v.bad("oss.region", fmt.Sprintf("the endpoint is that of %s", region), "correct one of the two, or leave the region out")
	}
	switch {
	case o.CNAME && ours:
		v.bad("oss.cname", "the endpoint is Alibaba Cloud's, not a domain of your own that is bound to the bucket", "leave out cname, or write your domain as endpoint")
	case o.CNAME && o.PathStyle == "true":
		v.bad("oss.cname", "a name of one's own has no bucket in the path", "leave out path_style")
	case ours && o.PathStyle == "true":
		v.bad("oss.path_style", "the service takes no bucket in the path (SecondLevelDomainForbidden)", "leave it out; it is for emulators and addresses")
	}
	if ours && u.Scheme == "http" && !strings.Contains(host, "-internal.") {
		v.warn("oss.endpoint", "events cross the public net in the clear", "write https://")
	}
	if v.config.OSS.TLS.CA != "" && u.Scheme == "http" && strings.Contains(o.Endpoint, "://") {
		v.warn("oss.tls.ca", "the endpoint is not spoken to with TLS", "write https:// in front of the endpoint")
	}
}

func (v *validator) proxy(proxy string) {
	if proxy == "" || proxy == "environment" {
		return
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		v.bad("oss.proxy", "this is no proxy", `write http://host:port, https:// or socks5://, environment for what HTTPS_PROXY says, or "" for none`)
	}
}

// keys are those that stand in the file, or in files that it names.
func (v *validator) keys(o OSS) {
	v.either("oss.access_key_id", o.AccessKeyID, "oss.access_key_id_file", o.AccessKeyIDFile)
	v.either("oss.access_key_secret", o.AccessKeySecret, "oss.access_key_secret_file", o.AccessKeySecretFile)
	v.either("oss.security_token", o.SecurityToken, "oss.security_token_file", o.SecurityTokenFile)
	id, secret := o.AccessKeyID+o.AccessKeyIDFile != "", o.AccessKeySecret+o.AccessKeySecretFile != ""
	switch {
	case id && o.Credentials.From != "auto":
		v.bad("oss.credentials.from", "oss.access_key_id is set too", "keep one of the two")
	case id && !secret:
		v.bad("oss.access_key_secret", "there is an access_key_id but no secret", "set access_key_secret or access_key_secret_file, or leave out both")
	case secret && !id:
		v.bad("oss.access_key_id", "there is a secret but no access_key_id", "set access_key_id, or leave out both")
	case !id && o.SecurityToken+o.SecurityTokenFile != "":
		v.bad("oss.security_token", "there is a security token but no key", "set access_key_id and access_key_secret")
	}
}

func (v *validator) credentials(c Credentials) {
	const at = "oss.credentials."
	if v.config.Embedded.Enabled && (c.From != "auto" || c.RoleARN != "") {
		v.bad(at+"from", "the embedded store has keys of its own", "leave out oss.credentials, or embedded")
	}
	v.oneOf(at+"from", c.From, "auto", "file", "ecs", "oidc")
	only := func(setting, value string, ok bool, mend string) {
		if value != "" && !ok {
			v.bad(at+setting, "this has no meaning with from: "+c.From, mend)
		}
	}
	if c.From == "file" && c.File == "" {
		v.bad(at+"file", "there is no file", "name a JSON file with AccessKeyId, AccessKeySecret and, for temporary keys, SecurityToken")
	}
	only("file", c.File, c.From == "file", "write from: file, or leave it out")
	only("role_name", c.RoleName, c.From == "ecs", "write from: ecs; the role to take on with the keys is role_arn")
	only("oidc_provider_arn", c.OIDCProviderARN, c.From == "oidc", "write from: oidc, or leave it out")
	only("oidc_token_file", c.OIDCTokenFile, c.From == "oidc", "write from: oidc, or leave it out")
	only("external_id", c.ExternalID, c.From != "oidc", "leave it out: a role that is taken on by a token knows none")
	if c.RoleARN != "" && !roleARN.MatchString(c.RoleARN) {
		v.bad(at+"role_arn", fmt.Sprintf("%q is no role", c.RoleARN), "write it as acs:ram::<account's number>:role/<name>")
	}
	if c.RoleARN == "" && c.From != "oidc" {
		for _, s := range []struct{ name, value string }{{"external_id", c.ExternalID}, {"policy", c.Policy}, {"sts_endpoint", c.STSEndpoint}} {
			if s.value != "" {
				v.bad(at+s.name, "there is no role to take on", "set role_arn, or leave it out")
			}
		}
	}
	if c.Policy != "" && !json.Valid([]byte(c.Policy)) {
		v.bad(at+"policy", "this is no JSON", `write a RAM policy, as in '{"Version":"1","Statement":[…]}'`)
	}
	if strings.ContainsAny(c.STSEndpoint, "/ ") {
		v.bad(at+"sts_endpoint", "this is no host", "write it without https://, as in sts.cn-hangzhou.aliyuncs.com, or sts-vpc.cn-hangzhou.aliyuncs.com within a VPC")
	}
	v.lasts(at+"role_session_duration", c.RoleSessionDuration, 15*time.Minute)
}
