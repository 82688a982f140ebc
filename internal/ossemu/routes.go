package ossemu

import "net/http"

// route is an operation: its name in rules, counters and logs, and what carries
// it out.
type route struct {
	op    string
	serve func(*Server, http.ResponseWriter, *request) error
}

// Routes by method and subresource; "" is none. Where a request has several
// subresources, the first in the order of subresources decides.
var (
	serviceRoutes = map[string]route{
		"GET ": {"list_buckets", (*Server).listBuckets},
	}
	bucketRoutes = map[string]route{
		"GET ":           {"list", (*Server).listObjects},
		"HEAD ":          {"list", (*Server).listObjects},
		"PUT ":           {"create_bucket", (*Server).putBucket},
		"DELETE ":        {"delete_bucket", (*Server).deleteBucket},
		"POST delete":    {"delete_multiple", (*Server).deleteMultiple},
		"GET bucketInfo": {"bucket_info", (*Server).bucketInfo},
		"GET location":   {"location", (*Server).bucketInfo},
		"GET versioning": {"versioning", (*Server).bucketInfo},
		"GET acl":        {"get_bucket_acl", (*Server).bucketInfo},
	}
	objectRoutes = map[string]route{
		"GET ":           {"get", (*Server).getObject},
		"HEAD ":          {"head", (*Server).getObject},
		"PUT ":           {"put", (*Server).putObject},
		"DELETE ":        {"delete", (*Server).deleteObject},
		"POST append":    {"append", (*Server).appendObject},
		"GET acl":        {"get_acl", (*Server).getACL},
		"PUT acl":        {"put_acl", (*Server).putACL},
		"GET tagging":    {"get_tagging", (*Server).getTagging},
		"PUT tagging":    {"put_tagging", (*Server).putTagging},
		"DELETE tagging": {"delete_tagging", (*Server).deleteTagging},
	}
)

// subresources are query parameters that turn an operation into another one.
var subresources = []string{
	"append", "delete", "bucketInfo", "location", "versioning", "versions",
	"acl", "uploads", "uploadId", "tagging", "symlink", "restore", "cors", "logging", "website", "referer", "lifecycle",
	"policy", "stat", "encryption", "inventory", "worm", "replication", "x-oss-process", "callback", "qos",
	"requestPayment", "live", "comp", "metaQuery", "cname", "accessmonitor", "style",
}

func (r *request) route() route {
	routes := objectRoutes
	switch {
	case r.bucket == "":
		routes = serviceRoutes
	case r.key == "":
		routes = bucketRoutes
	}
	for _, name := range subresources {
		if r.has(name) {
			return routes[r.Method+" "+name]
		}
	}
	return routes[r.Method+" "]
}
