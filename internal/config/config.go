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
	Context      string   `yaml:"context"` // of the nats CLI: a name, or the path of its .json file
	URLs         []string `yaml:"url"`     // one server, or several of a cluster
	Name         string   `yaml:"name"`    // of the connection
	Creds        string   `yaml:"creds"`   // path of a .creds file
	NKey         string   `yaml:"nkey"`    // path of an nkey seed file
	User         string   `yaml:"user"`
	Password     string   `yaml:"password" secret:"true"`
	PasswordFile string   `yaml:"password_file"`
	Token        string   `yaml:"token" secret:"true"`
	TokenFile    string   `yaml:"token_file"`
	TLS          TLS      `yaml:"tls"`
	Domain       string   `yaml:"jetstream_domain"`
	APIPrefix    string   `yaml:"jetstream_api_prefix"` // instead of $JS.API, where another account's JetStream is imported
	InboxPrefix  string   `yaml:"inbox_prefix"`         // instead of _INBOX
}

// TLS holds paths of PEM files. They are read again for every new connection.
type TLS struct {
	CA    string `yaml:"ca"`   // authorities to trust instead of the system's
	Cert  string `yaml:"cert"` // our own certificate, where the server wants one
	Key   string `yaml:"key"`
	First bool   `yaml:"first"` // the server starts with the handshake (handshake_first)
}

// OSS says where the objects go. Without keys the environment is asked for them.
type OSS struct {
	Endpoint            string        `yaml:"endpoint"`
	Region              string        `yaml:"region"`
	Bucket              string        `yaml:"bucket"`
	Prefix              string        `yaml:"prefix"`       // "" or ending in /
	ShardPrefix         int           `yaml:"shard_prefix"` // hexadecimal digits of its hash before each series' name; 0: none
	AccessKeyID         string        `yaml:"access_key_id"`
	AccessKeyIDFile     string        `yaml:"access_key_id_file"`
	AccessKeySecret     string        `yaml:"access_key_secret" secret:"true"`
	AccessKeySecretFile string        `yaml:"access_key_secret_file"`
	SecurityToken       string        `yaml:"security_token" secret:"true"`
	SecurityTokenFile   string        `yaml:"security_token_file"`
	Credentials         Credentials   `yaml:"credentials"`
	PathStyle           string        `yaml:"path_style"` // auto, true, false
	CNAME               bool          `yaml:"cname"`
	TLS                 Authorities   `yaml:"tls"`
	Proxy               string        `yaml:"proxy"` // "" for none, environment, or a URL
	Timeout             time.Duration `yaml:"timeout"`
	ConnectTimeout      time.Duration `yaml:"connect_timeout"`
	AuthVersion         string        `yaml:"auth_version"` // v4, v1
	ContentMD5          bool          `yaml:"content_md5"`
	TrafficLimit        int64         `yaml:"traffic_limit"` // bits a second in each append; 0: none
	CreateBucket        bool          `yaml:"create_bucket"`
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

	RoleName            string        `yaml:"role_name"` // ecs: of the instance; "": the one it has
	RoleARN             string        `yaml:"role_arn"`  // taken on with the keys; with oidc by the token
	RoleSessionName     string        `yaml:"role_session_name"`
	RoleSessionDuration time.Duration `yaml:"role_session_duration"`
	ExternalID          string        `yaml:"external_id"`
	Policy              string        `yaml:"policy"` // JSON, narrows what the role may
	OIDCProviderARN     string        `yaml:"oidc_provider_arn"`
	OIDCTokenFile       string        `yaml:"oidc_token_file"`
	STSEndpoint         string        `yaml:"sts_endpoint"`
}

// Objects are the properties that segments are created with. What is empty is not
// sent: the store then does as it does by itself, or as the bucket says.
type Objects struct {
	StorageClass         string            `yaml:"storage_class"`          // Standard, IA, Archive
	ServerSideEncryption string            `yaml:"server_side_encryption"` // AES256, KMS, SM4
	DataEncryption       string            `yaml:"data_encryption"`        // with KMS: SM4
	ACL                  string            `yaml:"acl"`
	ContentType          string            `yaml:"content_type"`
	ContentEncoding      string            `yaml:"content_encoding"` // gzip
	ContentDisposition   string            `yaml:"content_disposition"`
	CacheControl         string            `yaml:"cache_control"`
	Expires              Moment            `yaml:"expires"`
	ForbidOverwrite      bool              `yaml:"forbid_overwrite"`
	Metadata             map[string]string `yaml:"metadata"`
	Tagging              map[string]string `yaml:"tagging"`
}

// RouteObjects are properties that one route's segments have besides or instead.
type RouteObjects struct {
	StorageClass string            `yaml:"storage_class"`
	Metadata     map[string]string `yaml:"metadata"` // added to objects.metadata
	Tagging      map[string]string `yaml:"tagging"`  // added to objects.tagging
}

// Source is one stream and what becomes of its events.
type Source struct {
	Stream string  `yaml:"stream"`
	Start  Start   `yaml:"start"` // where to begin if nothing was ever archived
	Lanes  int     `yaml:"lanes"` // 1, or the n of the stream's {{partition(n,..)}} transform
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
	Subjects  []string      `yaml:"subjects"`
	Storage   string        `yaml:"storage"`   // file, memory
	Retention string        `yaml:"retention"` // limits, interest, workqueue
	Replicas  int           `yaml:"replicas"`
	MaxAge    time.Duration `yaml:"max_age"`
	MaxBytes  int64         `yaml:"max_bytes" unit:"bytes"`
}

// Route is a route of the layout and when its series are flushed and rolled.
type Route struct {
	Name     string   `yaml:"name"` // default: its first subject
	Subjects []string `yaml:"subjects"`
	Series   string   `yaml:"series"`
	Skip     bool     `yaml:"skip"`
	Format   string   `yaml:"format"`
	Codec    string   `yaml:"codec"`
	Payload  string   `yaml:"payload"`
	Newline  string   `yaml:"newline"`
	Audit    bool     `yaml:"audit"`
	Flush    Flush    `yaml:"flush"`
	Roll     Roll     `yaml:"roll"`

	Objects RouteObjects `yaml:"objects"`
}

// Flush says when a batch is sent: whichever comes first.
type Flush struct {
	Size   int           `yaml:"size" unit:"bytes"` // of the encoded lines
	Events int           `yaml:"events"`
	Linger time.Duration `yaml:"linger"` // since the batch's first event; 0: as soon as the line is free
}

// Roll says when a segment is sealed.
type Roll struct {
	Size int64         `yaml:"size" unit:"bytes"` // of the object
	Age  time.Duration `yaml:"age"`               // since its first append; 0: never
	Idle time.Duration `yaml:"idle"`              // since its last append; 0: never
}

// Defaults are what a route does where it does not say.
type Defaults struct {
	Format  string `yaml:"format"`
	Codec   string `yaml:"codec"`
	Payload string `yaml:"payload"`
	Flush   Flush  `yaml:"flush"`
	Roll    Roll   `yaml:"roll"`
}

// Limits bound what the process takes.
type Limits struct {
	Memory          int64 `yaml:"memory" unit:"bytes"` // of events that wait for their append
	OpenSeries      int   `yaml:"open_series"`
	ParallelAppends int   `yaml:"parallel_appends"`
	MaxAckPending   int   `yaml:"max_ack_pending"`        // of each lane's consumer
	MaxEvent        int   `yaml:"max_event" unit:"bytes"` // larger payloads go to the dead letters; 0: what the server takes
}

// Ledger configures the KV bucket.
type Ledger struct {
	Replicas int           `yaml:"replicas"` // 0: as the source stream
	Interval time.Duration `yaml:"interval"` // between writes of a lane's floor
}

// Lease configures who owns a lane.
type Lease struct {
	TTL      time.Duration `yaml:"ttl"`
	Disabled bool          `yaml:"disabled"` // for tests: every instance consumes; safe, but work is done twice
}

// Intake configures reading from the stream.
type Intake struct {
	Audit        time.Duration `yaml:"audit"`         // between comparisons of the consumer's state with what was seen
	DrainTimeout time.Duration `yaml:"drain_timeout"` // of a clean stop
}

// HTTP configures metrics, health and pages; an empty Listen turns them off.
type HTTP struct {
	Listen string `yaml:"listen"`
	Pprof  bool   `yaml:"pprof"` // profiles of the process below /debug/pprof/
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
	Enabled bool   `yaml:"enabled"`
	DataDir string `yaml:"data_dir"`
}
