package config

import (
	"strings"
	"testing"
	"time"
)

// ossHead is head with more settings of oss.
func ossHead(settings string) string {
	return strings.Replace(head, "bucket: bkt", "bucket: bkt, "+settings, 1)
}

func TestObjectErrors(t *testing.T) {
	long := strings.Repeat("x", 300)
	objects := func(s string) string { return head + "objects: {" + s + "}\n" + source }
	for _, tt := range []struct{ name, yaml, want string }{
		{"class", objects("storage_class: IAA"), `f.yaml:3:26: objects.storage_class: "IAA" is not known; did you mean "IA"?`},
		{"cold", objects("storage_class: ColdArchive"), "objects.storage_class: ColdArchive takes no appendable objects; use Standard, IA or Archive"},
		{"colder, of a route", head + source + "        objects: {storage_class: DeepColdArchive}\n", "f.yaml:8:34: sources[0].routes[0].objects.storage_class: DeepColdArchive takes no"},
		{"encryption", objects("server_side_encryption: AES265"), `objects.server_side_encryption: "AES265" is not known; did you mean "AES256"?`},
		{"no key for appendables", objects("server_side_encryption_key_id: k"), "unknown setting"},
		{"data encryption alone", objects("server_side_encryption: AES256, data_encryption: SM4"), "objects.data_encryption: it says with what KMS encrypts, and KMS does not"},
		{"acl", objects("acl: public"), `objects.acl: "public" is not known`},
		{"content type", objects("content_type: text"), `objects.content_type: "text" is no media type`},
		{"encoding", objects("content_encoding: br"), `objects.content_encoding: "br" is not offered; use gzip`},
		{"expires", objects("expires: tomorrow"), `objects.expires: "tomorrow" is no time; write it as in 2030-`},
		{"header", objects(`cache_control: "a\nb"`), "objects.cache_control: it has characters that a header cannot hold"},
		{"metadata name", objects("metadata: {Team: a}"), `f.yaml:3:28: objects.metadata.Team: "Team" is no name of metadata; use a-z`},
		{"metadata of ours", objects("metadata: {ossuary-archive: a}"), "objects.metadata.ossuary-archive: these names are the archive's own"},
		{"metadata value", objects("metadata: {a: für}"), "objects.metadata.a: it has characters"},
		{"metadata empty", objects(`metadata: {a: ""}`), "objects.metadata.a: it has no value"},
		{"metadata size", objects("metadata: {a: " + strings.Repeat("x", 8000) + "}"), "objects.metadata: 8012 bytes of metadata; use at most 7936"},
		{"metadata size with the route's", head + "objects: {metadata: {a: " + strings.Repeat("x", 7900) + "}}\n" + source + "        objects: {metadata: {b: " + strings.Repeat("x", 100) + "}}\n",
			"sources[0].routes[0].objects.metadata: 8024 bytes"},
		{"metadata is a list", objects("metadata: [a]"), "objects.metadata: this wants names with values"},
		{"tag key", objects("tagging: {a?: b}"), `objects.tagging.a?: "a?" is no key of a tag`},
		{"tag value", objects("tagging: {a: " + long + "}"), "is no value of a tag"},
		{"eleven tags", head + "objects: {tagging: {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6}}\n" + source + "        objects: {tagging: {g: 1, h: 2, i: 3, j: 4, k: 5}}\n",
			"sources[0].routes[0].objects.tagging: 11 tags; use at most 10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tt.yaml), env(nil))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

func TestObjects(t *testing.T) {
	c, err := Parse("f.yaml", []byte(head+`objects:
  storage_class: IA
  server_side_encryption: KMS
  data_encryption: SM4
  acl: private
  content_type: application/x-events
  content_encoding: gzip
  content_disposition: attachment
  cache_control: no-cache
  expires: 2030-01-02T03:04:05+01:00
  forbid_overwrite: true
  metadata: {team: "${TEAM}", a-1: b}
  tagging: {class: cold storage}
`+source+`        objects: {storage_class: Standard, metadata: {team: other}, tagging: {k: "v=+-._:/ 1"}}
`), env(map[string]string{"TEAM": "payments"}))
	if err != nil {
		t.Fatal(err)
	}
	o := c.Objects
	if o.StorageClass != "IA" || o.ServerSideEncryption != "KMS" || o.DataEncryption != "SM4" || o.ACL != "private" || !o.ForbidOverwrite ||
		!o.Expires.Equal(time.Date(2030, 1, 2, 2, 4, 5, 0, time.UTC)) || o.Metadata["team"] != "payments" || len(o.Metadata) != 2 || o.Tagging["class"] != "cold storage" {
		t.Errorf("%+v", o)
	}
	if r := c.Sources[0].Routes[0].Objects; r.StorageClass != "Standard" || r.Metadata["team"] != "other" || r.Tagging["k"] != "v=+-._:/ 1" {
		t.Errorf("%+v", r)
	}
	if len(c.Warnings) > 0 {
		t.Error(c.Warnings)
	}
	again, err := Parse("printed", c.Print(), env(nil))
	if err != nil {
		t.Fatalf("%v\n%s", err, c.Print())
	}
	if string(again.Print()) != string(c.Print()) {
		t.Errorf("what is printed reads as\n%s", again.Print())
	}
}

func TestConnectionErrors(t *testing.T) {
	endpoint := func(e, more string) string {
		return strings.Replace(head, `"https://oss-cn-hangzhou.aliyuncs.com"`, `"`+e+`"`+more, 1) + source
	}
	const role = "credentials: {role_arn: acs:ram::1:role/r, "
	for _, tt := range []struct{ name, yaml, want string }{
		{"accelerating", endpoint("oss-accelerate.aliyuncs.com", ""), "oss.region: an accelerating endpoint leads to buckets of any region, and signatures of version 4 need the bucket's; set it"},
		{"accelerating, with region", endpoint("oss-accelerate-overseas.aliyuncs.com", ", region: cn-beijing"), ""},
		{"domain", endpoint("https://archive.example.com", ", cname: true"), "oss.region: the region does not follow from the endpoint"},
		{"domain, with region", endpoint("https://archive.example.com", ", cname: true, region: cn-beijing"), ""},
		{"address", endpoint("10.0.0.1:9000", ", region: cn-beijing"), ""},
		{"address in the path", endpoint("10.0.0.1:9000", `, region: cn-beijing, path_style: "true"`), ""},
		{"internal", endpoint("oss-cn-beijing-internal.aliyuncs.com", ""), ""},
		{"dual stack", endpoint("cn-beijing.oss.aliyuncs.com", ""), ""},
		{"another region", endpoint("oss-cn-beijing.aliyuncs.com", ", region: cn-hangzhou"), "oss.region: the endpoint is that of cn-beijing; correct one"},
		{"bucket in the endpoint", endpoint("bkt.oss-cn-beijing.aliyuncs.com", ""), "oss.endpoint: the endpoint begins with the bucket; write oss-cn-beijing.aliyuncs.com"},
		{"S3", endpoint("s3.oss-cn-beijing.aliyuncs.com", ""), "oss.endpoint: this endpoint speaks the protocol of S3"},
		{"path style", endpoint("oss-cn-beijing.aliyuncs.com", `, path_style: "true"`), "oss.path_style: the service takes no bucket in the path (SecondLevelDomainForbidden)"},
		{"cname of theirs", endpoint("oss-cn-beijing.aliyuncs.com", ", cname: true"), "oss.cname: the endpoint is Alibaba Cloud's, not a domain of your own"},
		{"proxy", ossHead(`proxy: "localhost:3128"`) + source, "oss.proxy: this is no proxy; write http://host:port"},
		{"proxy of the environment", ossHead("proxy: environment") + source, ""},
		{"traffic", ossHead("traffic_limit: 1000") + source, "oss.traffic_limit: 1000 bits a second; use 245760 (30 KiB/s) to 838860800"},
		{"shards", ossHead("shard_prefix: 5") + source, "oss.shard_prefix: 5 digits of a shard; use 1 to 4, or 0 for none"},
		{"four shards", ossHead("shard_prefix: 4") + source, ""},
		{"authorities", ossHead("tls: {ca: /ca.pem}, content_md5: true, traffic_limit: 8_388_608") + source, ""},

		{"from", ossHead("credentials: {from: ec2}") + source, `oss.credentials.from: "ec2" is not known; did you mean "ecs"?`},
		{"from and keys", ossHead("access_key_id: a, access_key_secret: b, credentials: {from: ecs}") + source, "oss.credentials.from: oss.access_key_id is set too"},
		{"file is missing", ossHead("credentials: {from: file}") + source, "oss.credentials.file: there is no file; name a JSON file"},
		{"file is not wanted", ossHead("credentials: {file: /f}") + source, "oss.credentials.file: this has no meaning with from: auto; write from: file"},
		{"role name", ossHead("credentials: {role_name: r}") + source, "oss.credentials.role_name: this has no meaning with from: auto"},
		{"role", ossHead("credentials: {role_arn: r}") + source, `oss.credentials.role_arn: "r" is no role; write it as acs:ram::`},
		{"no role", ossHead("credentials: {external_id: r}") + source, "oss.credentials.external_id: there is no role to take on"},
		{"policy", ossHead(role+"policy: no}") + source, "oss.credentials.policy: this is no JSON"},
		{"STS", ossHead(role+`sts_endpoint: "https://sts.aliyuncs.com"}`) + source, "oss.credentials.sts_endpoint: this is no host"},
		{"session", ossHead(role+"role_session_duration: 1m}") + source, "oss.credentials.role_session_duration: 1m0s is too short; use at least 15m"},
		{"token", ossHead("credentials: {from: oidc, external_id: x}") + source, "oss.credentials.external_id: this has no meaning with from: oidc"},
		{"embedded", ossHead("credentials: {from: ecs}") + "embedded: {enabled: true}\n" + source, "oss.credentials.from: the embedded store has keys of its own"},
		{"token of the environment", ossHead("credentials: {from: oidc}") + source, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("f.yaml", []byte(tt.yaml), env(nil))
			if tt.want == "" {
				if err != nil || len(c.Warnings) > 0 {
					t.Error(err, c)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

func TestObjectWarnings(t *testing.T) {
	c, err := Parse("f.yaml", []byte(strings.Replace(head, "https://", "http://", 1)+
		"objects: {storage_class: Archive, acl: public-read-write, content_encoding: gzip}\n"+source+"        codec: zstd\n"), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	var all string
	for _, w := range c.Warnings {
		all += w.Error() + "\n"
	}
	for _, want := range []string{
		"oss.endpoint: events cross the public net in the clear", "objects.storage_class: objects of this class are read only after they were restored",
		"objects.acl: anybody may append", "objects.content_encoding: no route writes gzip",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in\n%s", want, all)
		}
	}
}
