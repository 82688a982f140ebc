// Package config reads the configuration file: YAML in which an unknown key is
// an error, environment variables only where a value says ${NAME}, secrets from
// files where wanted.
//
// It guarantees that a Config that Load returned is complete (defaults filled
// in) and passed every check that needs neither NATS nor OSS, and that errors
// name the setting, the place in the file, what is wrong and what mends it, all
// of them at once. What the servers say to it is not tested here; `consumer
// check` does that.
package config

import "time"

// Config is the effective configuration.
type Config struct {
	Archive  Archive  `yaml:"archive"`
	NATS     NATS     `yaml:"nats"`
	OSS      OSS      `yaml:"oss"`
	Objects  Objects  `yaml:"objects"`
	Sources  []Source `yaml:"sources"`
	Defaults Defaults `yaml:"defaults"`
	Limits   Limits   `yaml:"limits"`
	Ledger   Ledger   `yaml:"ledger"`
	Lease    Lease    `yaml:"lease"`
	Intake   Intake   `yaml:"intake"`
	HTTP     HTTP     `yaml:"http"`
	Tracing  Tracing  `yaml:"tracing"`
	Log      Log      `yaml:"log"`
	Embedded Embedded `yaml:"embedded"`

	// Warnings are the problems that do not keep the archive from running.
	Warnings []Problem `yaml:"-"`
}

// Archive names the archive; the name stands in every frame and in the ledger bucket.
type Archive struct {
	Name string `yaml:"name"` // [A-Za-z0-9_-]{1,64}
}

// NATS says how to connect. What is not set here is taken from the context, if one
// is named.
type NATS struct {
	Context      string   `yaml:"context"`                // of the nats CLI: a name, or the path of its .json file
	URLs         []string `yaml:"url"`                    // one server, or several of a cluster
	Name         string   `yaml:"name"`                   // of the connection
	Creds        string   `yaml:"creds"`                  // path of a .creds file
	NKey         string   `yaml:"nkey"`                   // path of an nkey seed file
	User         string   `yaml:"user"`                   // with password or password_file
	Password     string   `yaml:"password" secret:"true"` // of user; better a file
	PasswordFile string   `yaml:"password_file"`          // path; read again for every connection
	Token        string   `yaml:"token" secret:"true"`    // better a file
	TokenFile    string   `yaml:"token_file"`             // path; read again for every connection
	TLS          TLS      `yaml:"tls"`
	Domain       string   `yaml:"jetstream_domain"`     // of the JetStream that has the streams, seen from a leaf node
	APIPrefix    string   `yaml:"jetstream_api_prefix"` // instead of $JS.API, where another account's JetStream is imported
	InboxPrefix  string   `yaml:"inbox_prefix"`         // instead of _INBOX
}

// TLS holds paths of PEM files. They are read again for every new connection.
type TLS struct {
	CA    string `yaml:"ca"`    // authorities to trust instead of the system's
	Cert  string `yaml:"cert"`  // our own certificate, where the server wants one
	Key   string `yaml:"key"`   // of cert
	First bool   `yaml:"first"` // the server starts with the handshake (handshake_first)
}

// OSS says where the objects go. Without keys the environment is asked for them.
type OSS struct {
	Endpoint            string        `yaml:"endpoint"`                        // https://oss-cn-hangzhou-internal.aliyuncs.com and its like
	Region              string        `yaml:"region"`                          // cn-hangzhou; an endpoint of Alibaba Cloud says it
	Bucket              string        `yaml:"bucket"`                          // its name
	Prefix              string        `yaml:"prefix"`                          // "" or ending in /
	ShardPrefix         int           `yaml:"shard_prefix"`                    // hexadecimal digits of its hash before each series' name; 0: none
	AccessKeyID         string        `yaml:"access_key_id"`                   // without keys those of the environment are used
	AccessKeyIDFile     string        `yaml:"access_key_id_file"`              // path; read again when it changes
	AccessKeySecret     string        `yaml:"access_key_secret" secret:"true"` // better a file
	AccessKeySecretFile string        `yaml:"access_key_secret_file"`          // path; read again when it changes
	SecurityToken       string        `yaml:"security_token" secret:"true"`    // of temporary keys
	SecurityTokenFile   string        `yaml:"security_token_file"`             // path; read again when it changes
	Credentials         Credentials   `yaml:"credentials"`
	PathStyle           string        `yaml:"path_style"` // auto, true, false
	CNAME               bool          `yaml:"cname"`      // the endpoint is a domain of one's own
	TLS                 Authorities   `yaml:"tls"`
	Proxy               string        `yaml:"proxy"`           // "" for none, environment, or a URL
	Timeout             time.Duration `yaml:"timeout"`         // of a request
	ConnectTimeout      time.Duration `yaml:"connect_timeout"` // of a connection
	AuthVersion         string        `yaml:"auth_version"`    // v4, v1
	ContentMD5          bool          `yaml:"content_md5"`     // let the store compare each append before it takes it
	TrafficLimit        int64         `yaml:"traffic_limit"`   // bits a second in each append; 0: none
	CreateBucket        bool          `yaml:"create_bucket"`   // make the bucket if it is missing
}

// Authorities are trusted besides the system's.
type Authorities struct {
	CA string `yaml:"ca"` // path of a PEM file
}

// Credentials say where the keys come from, where they do not stand in the
// settings access_key_id and so on, and which role is taken on with them.
type Credentials struct {
	From string `yaml:"from"` // auto, file, ecs, oidc
	File string `yaml:"file"` // JSON as STS answers it

	RoleName            string        `yaml:"role_name"`             // ecs: of the instance; "": the one it has
	RoleARN             string        `yaml:"role_arn"`              // taken on with the keys; with oidc by the token
	RoleSessionName     string        `yaml:"role_session_name"`     // what the role is seen as in logs of the cloud
	RoleSessionDuration time.Duration `yaml:"role_session_duration"` // of the temporary keys; at least 15m
	ExternalID          string        `yaml:"external_id"`           // of the role, if it wants one
	Policy              string        `yaml:"policy"`                // JSON, narrows what the role may
	OIDCProviderARN     string        `yaml:"oidc_provider_arn"`     // oidc: who vouches for the token
	OIDCTokenFile       string        `yaml:"oidc_token_file"`       // oidc: path of the token
	STSEndpoint         string        `yaml:"sts_endpoint"`          // "": sts.aliyuncs.com
}

// Objects are the properties that segments are created with. What is empty is not
// sent: the store then does as it does by itself, or as the bucket says.
type Objects struct {
	StorageClass         string            `yaml:"storage_class"`          // Standard, IA, Archive
	ServerSideEncryption string            `yaml:"server_side_encryption"` // AES256, KMS, SM4
	DataEncryption       string            `yaml:"data_encryption"`        // with KMS: SM4
	ACL                  string            `yaml:"acl"`                    // default, private, public-read, public-read-write
	ContentType          string            `yaml:"content_type"`           // "": by the codec
	ContentEncoding      string            `yaml:"content_encoding"`       // gzip
	ContentDisposition   string            `yaml:"content_disposition"`    // header of that name
	CacheControl         string            `yaml:"cache_control"`          // header of that name
	Expires              Moment            `yaml:"expires"`                // of copies in caches
	ForbidOverwrite      bool              `yaml:"forbid_overwrite"`       // no guard where versioning is on
	Metadata             map[string]string `yaml:"metadata"`               // x-oss-meta-*
	Tagging              map[string]string `yaml:"tagging"`                // up to 10 tags
}

// RouteObjects are properties that one route's segments have besides or instead.
type RouteObjects struct {
	StorageClass string            `yaml:"storage_class"` // instead of objects.storage_class
	Metadata     map[string]string `yaml:"metadata"`      // added to objects.metadata
	Tagging      map[string]string `yaml:"tagging"`       // added to objects.tagging
}

// Source is one stream and what becomes of its events.
type Source struct {
	Stream string  `yaml:"stream"` // its name
	Start  Start   `yaml:"start"`  // where to begin if nothing was ever archived
	Lanes  int     `yaml:"lanes"`  // 1, or the n of the stream's {{partition(n,..)}} transform
	Create *Create `yaml:"create"`
	Routes []Route `yaml:"routes"`
}

// Start is where a source begins when the archive has nothing of it. The zero
// value is the first message that the stream has.
type Start struct {
	New      bool
	Sequence uint64
	Time     time.Time
}

// Create makes the stream where it is missing.
type Create struct {
	Subjects  []string      `yaml:"subjects"`               // that the stream takes
	Storage   string        `yaml:"storage"`                // file, memory
	Retention string        `yaml:"retention"`              // limits, interest, workqueue
	Replicas  int           `yaml:"replicas"`               // of the stream
	MaxAge    time.Duration `yaml:"max_age"`                // how long it keeps messages; 0: for ever
	MaxBytes  int64         `yaml:"max_bytes" unit:"bytes"` // how much it keeps; 0: no limit
}

// Route is a route of the layout and when its series are flushed and rolled.
type Route struct {
	Name     string   `yaml:"name"`     // default: its first subject
	Subjects []string `yaml:"subjects"` // filters; the first route that takes the subject has the event
	Series   string   `yaml:"series"`   // template of the object's name, as in orders/{{wildcard(1)}}/{{time(%Y/%m/%d/%H)}}
	Skip     bool     `yaml:"skip"`     // do not archive these
	Format   string   `yaml:"format"`   // envelope: JSON lines, replayable; raw: payloads, one per line
	Codec    string   `yaml:"codec"`    // gzip, zstd, plain (envelope only)
	Payload  string   `yaml:"payload"`  // envelope: auto, json, text, base64
	Newline  string   `yaml:"newline"`  // raw, for a payload with a newline: refuse (dead letter), escape
	Audit    bool     `yaml:"audit"`    // a Merkle root of the events in every frame
	Flush    Flush    `yaml:"flush"`
	Roll     Roll     `yaml:"roll"`

	Objects RouteObjects `yaml:"objects"`
}

// Flush says when a batch is sent: whichever comes first.
type Flush struct {
	Size   int           `yaml:"size" unit:"bytes"` // of the encoded lines
	Events int           `yaml:"events"`            // in a batch
	Linger time.Duration `yaml:"linger"`            // since the batch's first event; 0: as soon as the line is free
}

// Roll says when a segment is sealed.
type Roll struct {
	Size int64         `yaml:"size" unit:"bytes"` // of the object
	Age  time.Duration `yaml:"age"`               // since its first append; 0: never
	Idle time.Duration `yaml:"idle"`              // since its last append; 0: never
}

// Defaults are what a route does where it does not say.
type Defaults struct {
	Format  string `yaml:"format"`  // envelope, raw
	Codec   string `yaml:"codec"`   // gzip, zstd, plain
	Payload string `yaml:"payload"` // auto, json, text, base64
	Flush   Flush  `yaml:"flush"`
	Roll    Roll   `yaml:"roll"`
}

// Limits bound what the process takes.
type Limits struct {
	Memory          int64 `yaml:"memory" unit:"bytes"`    // of events that wait for their append
	OpenSeries      int   `yaml:"open_series"`            // in memory; the least recently used is flushed and forgotten beyond
	ParallelAppends int   `yaml:"parallel_appends"`       // of all series
	MaxAckPending   int   `yaml:"max_ack_pending"`        // of each lane's consumer; 0: one per KiB of memory, but 100,000 to 1,000,000
	MaxEvent        int   `yaml:"max_event" unit:"bytes"` // larger payloads go to the dead letters; 0: what the server takes
}

// Ledger configures the KV bucket.
type Ledger struct {
	Replicas int           `yaml:"replicas"` // 0: as the source stream
	Interval time.Duration `yaml:"interval"` // between writes of a lane's floor
}

// Lease configures who owns a lane.
type Lease struct {
	TTL      time.Duration `yaml:"ttl"`      // a standby takes over after so long without a sign of life
	Replace  bool          `yaml:"replace"`  // stand by for an instance with other routes, whose place this one takes
	Lanes    int           `yaml:"lanes"`    // that one instance has at most; 0: all that are free
	Disabled bool          `yaml:"disabled"` // for tests: every instance consumes; safe, but work is done twice
}

// Intake configures reading from the stream.
type Intake struct {
	Audit        time.Duration `yaml:"audit"`         // between comparisons of the consumer's state with what was seen
	DrainTimeout time.Duration `yaml:"drain_timeout"` // of a clean stop
}

// HTTP configures metrics, health and pages; an empty Listen turns them off.
type HTTP struct {
	Listen string `yaml:"listen"` // host:port; "": not at all
	Pprof  bool   `yaml:"pprof"`  // profiles of the process below /debug/pprof/
}

// Tracing sends what becomes of batches to a collector of OpenTelemetry; an empty
// Endpoint turns it off.
type Tracing struct {
	Endpoint string  `yaml:"endpoint"` // "" for none, environment for what OTEL_* say, or a URL
	Sample   float64 `yaml:"sample"`   // which part of the batches, from 0 to 1
}

// Log configures logging.
type Log struct {
	Level  string `yaml:"level"`  // trace, debug, info, warn, error
	Format string `yaml:"format"` // auto, json, console
}

// Embedded runs NATS and an OSS-compatible store in the process.
type Embedded struct {
	Enabled bool   `yaml:"enabled"`  // true where there is no file
	DataDir string `yaml:"data_dir"` // where their data lies
}
